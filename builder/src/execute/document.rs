//! `image.json` and `manifest.json`: what was built, from what, for people and scripts.

use crate::boot;
use crate::digest::Sha256;
use crate::plan::{self, Inputs};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// The only version of both documents.
pub const VERSION: u32 = 1;

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
    pub sha256: Sha256,
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
    /// Always [`VERSION`].
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
    pub sha256: Sha256,
}
