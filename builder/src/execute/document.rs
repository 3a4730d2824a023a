//! `image.json` and `manifest.json`: what was built, from what, for people and scripts.

use crate::boot;
use crate::digest::Sha256;
use crate::plan::{self, Inputs};
use crate::render::Vault;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// The version of both documents that is written. Version 1 had plain digests of all files.
pub const VERSION: u32 = 2;

/// The inputs that may have secrets in them.
const PRIVATE: [&str; 2] = ["user-data", "handoff"];

/// What tells files apart. Of a file with a secret in it no plain digest is told: with one anybody could try guesses at
/// the secret. Documents of earlier versions have `sha256` for all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Digest {
    /// SHA-256 of the bytes, where no secret is in them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sha256: Option<Sha256>,
    /// Of others BLAKE3 over the 32 bytes of their SHA-256, under the key that only the cluster's encrypted secrets have: 64
    /// hexadecimal digits. A cluster without secrets of its own has no such key.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub keyed: Option<String>,
}

impl Digest {
    /// Of a file without secrets.
    pub fn public(sha256: Sha256) -> Self {
        Self { sha256: Some(sha256), keyed: None }
    }

    /// Of a file with secrets.
    pub fn private(sha256: Sha256, vault: &dyn Vault) -> Self {
        Self { sha256: None, keyed: vault.keyed(sha256.as_bytes()) }
    }
}

/// The digests of inputs that a document may tell: those of documents with secrets only where they are keyed.
pub fn told(inputs: &Inputs, (private, vault): (bool, &dyn Vault)) -> Inputs {
    let plain = private && vault.keyed(b"").is_none();
    let told = inputs.iter().filter(|(name, _)| !plain || !PRIVATE.contains(&name.as_str()));
    told.map(|(name, digest)| (name.clone(), digest.clone())).collect()
}

/// `image.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Image {
    /// Always [`VERSION`].
    pub version: u32,
    /// The `kiln` that built it.
    pub kiln: String,
    /// The node.
    pub node: String,
    /// The cluster's name and id.
    pub cluster: String,
    /// The cluster's id.
    pub cluster_id: Uuid,
    /// Seconds since the epoch: the time that every built byte carries.
    pub source_date: i64,
    /// The disk.
    pub disk: Disk,
    /// The boot chain.
    pub boot: boot::Facts,
    /// What the image is a function of, each with its digest.
    pub inputs: Inputs,
    /// The packages in it.
    pub packages: Vec<Package>,
    /// The files in it that overlays have fetched; left out when there are none.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub artefacts: Vec<Artefact>,
}

impl From<&plan::Artefact> for Artefact {
    fn from(plan::Artefact { path, member, mode: _, locked }: &plan::Artefact) -> Self {
        Self {
            name: locked.name.clone(),
            path: path.clone(),
            url: locked.url.clone(),
            member: member.clone(),
            sha256: locked.sha256,
        }
    }
}

/// The disk image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Disk {
    /// Bytes, holes included.
    pub size: u64,
    /// Digest of the raw image.
    #[serde(flatten)]
    pub digest: Digest,
    /// GUID of the partition table.
    pub guid: Uuid,
    /// Logical sector size in bytes.
    pub sector_size: u32,
    /// Its partitions.
    pub partitions: Vec<Partition>,
}

/// A partition.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Partition {
    /// From 1.
    pub number: u32,
    /// Name in the GPT.
    pub name: String,
    /// Type GUID.
    pub type_guid: Uuid,
    /// Unique GUID.
    pub guid: Uuid,
    /// First byte on the disk.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// `ext4` or `vfat`.
    pub filesystem: String,
    /// UUID of an ext4 file system, volume id of a FAT one.
    pub filesystem_id: String,
    /// Digest of what nodes share: the file system before it got this node's identifiers. None for what
    /// belongs to the node alone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub shared_sha256: Option<Sha256>,
}

/// A package.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Package {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// Architecture.
    pub architecture: String,
    /// Digest of the package file.
    pub sha256: Sha256,
}

/// A file that an overlay has fetched.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Artefact {
    /// Name in the overlay's document.
    pub name: String,
    /// Where it is in the image.
    pub path: String,
    /// Where it is published.
    pub url: String,
    /// The part of it that is in the image, when it is an archive.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub member: Option<String>,
    /// Digest of the file as it is published.
    pub sha256: Sha256,
}

/// `manifest.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// [`VERSION`], or of a document that is there already, an earlier one.
    pub version: u32,
    /// The `kiln` that built it.
    pub kiln: String,
    /// The cluster's name.
    pub cluster: String,
    /// The cluster's id.
    pub cluster_id: Uuid,
    /// Seconds since the epoch.
    pub source_date: i64,
    /// Every built file by its path below the output folder.
    pub files: BTreeMap<String, File>,
}

/// A built file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Bytes.
    pub size: u64,
    /// Digest.
    #[serde(flatten)]
    pub digest: Digest,
}

#[cfg(test)]
mod tests {
    use super::{Digest, File};
    use crate::digest::Sha256;

    #[test]
    fn documents_of_earlier_versions_are_read() {
        let sha256 = Sha256::of(b"x");
        let old = format!("{{\"size\":1,\"sha256\":\"{sha256}\"}}");
        let file: File = serde_json::from_str(&old).unwrap();
        assert_eq!(file, File { size: 1, digest: Digest::public(sha256) });
        assert_eq!(serde_json::to_string(&file).unwrap(), old);
        let none = File { size: 1, digest: Digest::default() };
        assert_eq!(serde_json::to_string(&none).unwrap(), "{\"size\":1}");
        assert_eq!(serde_json::from_str::<File>("{\"size\":1}").unwrap(), none);
    }
}
