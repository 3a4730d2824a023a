//! A node's files from its root and its seed.

use super::document::{self, Digest, Image, Partition};
use super::output::{self, Output, Partial};
use super::room;
use super::roots::Root;
use super::seeds;
use crate::cluster::identity::Medium;
use crate::cluster::{Cluster, Node};
use crate::digest::Sha256;
use crate::image::{self, Body, Disk};
use crate::lock::{self, Lock};
use crate::plan::{Artefact, Inputs};
use crate::render::{Seed, Vault};
use kiln_contract::partition;
use kiln_formats::qcow2;
use kiln_formats::tree::Timestamp;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

/// Bytes of the seed partition: room for what users add, and FAT16, which on sectors of 4096 bytes begins 64 KiB above
/// 16 MiB.
fn cidata_bytes(sector_size: u32) -> u64 {
    if sector_size > 512 { 17 << 20 } else { 16 << 20 }
}
/// zstd's level of `disk.img.zst`: beyond it minutes buy single percents.
const ZSTD_LEVEL: i32 = 9;

/// A form of a disk image beside the raw one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// `disk.img.zst`.
    Zstd,
    /// `disk.qcow2`.
    Qcow2,
}

/// Why a node was not built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The output folder.
    #[error(transparent)]
    Output(#[from] output::Error),
    /// It does not fit.
    #[error(transparent)]
    Room(#[from] room::Error),
    /// The disk image.
    #[error("{path}: {source}")]
    Image {
        /// The file.
        path: String,
        /// What failed.
        source: image::Error,
    },
    /// Another form of it.
    #[error("{path}: {reason}")]
    Form {
        /// The file.
        path: String,
        /// What failed.
        reason: String,
    },
}

/// What a node is built from.
pub struct Building<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// The node.
    pub node: &'a Node,
    /// The lock.
    pub lock: &'a Lock,
    /// The packages of its root.
    pub packages: &'a [lock::Package],
    /// The artefacts of its root.
    pub artefacts: &'a [Artefact],
    /// Its root.
    pub root: &'a Root,
    /// Its seed.
    pub seed: &'a Seed,
    /// Its inputs, as the plan has them.
    pub inputs: &'a Inputs,
    /// What digests of files with secrets are keyed by.
    pub vault: &'a dyn Vault,
    /// Forms beside the raw image.
    pub forms: &'a [Form],
    /// Threads for compression.
    pub threads: usize,
}

/// Builds all files of a node and gives their digests by path below the output folder.
pub fn build(building: &Building<'_>, output: &Output) -> Result<BTreeMap<String, document::File>, Error> {
    let node = &building.node.name;
    let disk = disk(building);
    let (_, bytes) = image::place(disk.partitions.iter().map(|partition| partition.size));
    room::of_image(building.node, bytes, building.root.facts.root_bytes)?;
    output.forget(node);
    let mut files = BTreeMap::new();
    let mut keep = |path: String, bytes: &[u8]| -> Result<(), Error> {
        let private = seeds::is_private(&path, building.seed);
        let sha256 =
            if private { output.write_private(&path, bytes)? } else { output.write(&path, bytes)? };
        let digest = if private { Digest::private(sha256, building.vault) } else { Digest::public(sha256) };
        files.insert(path, document::File { size: bytes.len() as u64, digest });
        Ok(())
    };
    let seed = building.seed;
    keep(format!("{node}/seed/meta-data"), seed.meta_data.as_bytes())?;
    keep(format!("{node}/seed/user-data"), seed.user_data.as_bytes())?;
    keep(format!("{node}/seed/network-config"), seed.network_config.as_bytes())?;
    keep(format!("{node}/seed/vendor-data"), b"")?;

    let path = format!("{node}/disk.img");
    let mut partial = create(building, &path, output)?;
    let failed = |source| match source {
        // A full disk, mostly: the output folder knows what to advise.
        image::Error::Io(error) => Error::Output(output::Error::io(&output.folder().join(&path), error)),
        source => Error::Image { path: path.clone(), source },
    };
    let written = image::write(&disk, partial.file()).map_err(failed)?;
    let (sha256, size) = image::digest(partial.file()).map_err(|e| failed(e.into()))?;
    // The other forms are made of the raw image while it still has its working name: none appears without it.
    let mut others = Vec::new();
    for form in building.forms {
        others.push(other(*form, &mut partial, building, output)?);
    }
    let digest = digest(building, sha256);
    let image = describe(building, &disk, (&written, &digest));
    partial.finish()?;
    files.insert(path.clone(), document::File { size, digest });
    for (path, file, partial) in others {
        partial.finish()?;
        files.insert(path, file);
    }
    let mut json = serde_json::to_vec_pretty(&image).map_err(|e| failed(io::Error::from(e).into()))?;
    json.push(b'\n');
    let path = format!("{node}/image.json");
    let digest = Digest::public(output.write(&path, &json)?);
    files.insert(path, document::File { size: json.len() as u64, digest });
    let names: Vec<String> = files.keys().cloned().collect();
    output.remember(node, building.inputs, &names)?;
    Ok(files)
}

/// The digest of a file that the whole seed is in.
fn digest(building: &Building<'_>, sha256: Sha256) -> Digest {
    if building.seed.is_private() { Digest::private(sha256, building.vault) } else { Digest::public(sha256) }
}

/// A file that is readable for others than its owner only when no secret is in it.
fn create(building: &Building<'_>, path: &str, output: &Output) -> Result<Partial, output::Error> {
    if building.seed.is_private() { output.create_private(path) } else { output.create(path) }
}

/// The disk of a node.
fn disk(building: &Building<'_>) -> Disk {
    let identity = building.cluster.identity(building.node);
    let medium = Medium::Disk;
    let facts = &building.root.facts;
    let guid = |label: &str| identity.partition_guid(label, medium);
    let created = Timestamp { secs: building.lock.source_date, nanos: 0 };
    let partitions = vec![
        image::Partition {
            name: partition::LABEL_ESP,
            type_guid: partition::TYPE_ESP,
            guid: guid(partition::LABEL_ESP),
            size: facts.esp_bytes,
            body: Body::FatCopy {
                blob: Arc::clone(&building.root.esp),
                volume_id: identity.fat_volume_id(partition::LABEL_ESP, medium),
            },
        },
        image::Partition {
            name: partition::LABEL_CIDATA,
            type_guid: partition::TYPE_CIDATA,
            guid: guid(partition::LABEL_CIDATA),
            size: cidata_bytes(building.node.sector_size),
            body: Body::Fat {
                tree: seeds::tree(building.seed, created),
                label: partition::LABEL_CIDATA,
                volume_id: identity.fat_volume_id(partition::LABEL_CIDATA, medium),
                created,
            },
        },
        image::Partition {
            name: partition::LABEL_ROOT_A,
            type_guid: partition::TYPE_ROOT_AMD64,
            guid: guid(partition::LABEL_ROOT_A),
            size: facts.root_bytes,
            body: Body::Ext4 {
                blob: Arc::clone(&building.root.root),
                uuid: identity.filesystem_uuid(partition::LABEL_ROOT_A, medium),
            },
        },
    ];
    Disk { guid: identity.disk_guid(medium), sector_size: building.node.sector_size, partitions }
}

fn other(
    form: Form,
    raw: &mut Partial,
    building: &Building<'_>,
    output: &Output,
) -> Result<(String, document::File, Partial), Error> {
    let name = match form {
        Form::Zstd => "disk.img.zst",
        Form::Qcow2 => "disk.qcow2",
    };
    let path = format!("{}/{name}", building.node.name);
    let failed = |reason: String| Error::Form { path: path.clone(), reason };
    let mut partial = create(building, &path, output)?;
    match form {
        Form::Zstd => {
            compress(raw.file(), partial.file(), building.threads).map_err(|e| failed(e.to_string()))?
        }
        Form::Qcow2 => {
            let options = qcow2::Options { zstd_level: None };
            qcow2::write(raw.file(), options, partial.file()).map_err(|e| failed(e.to_string()))?;
        }
    }
    let (sha256, size) = image::digest(partial.file()).map_err(|e| failed(e.to_string()))?;
    Ok((path, document::File { size, digest: digest(building, sha256) }, partial))
}

/// zstd with at least one worker: its bytes do not depend on how many there are, but differ from those of
/// the mode without workers.
fn compress(raw: &File, target: &mut File, threads: usize) -> io::Result<()> {
    let mut encoder = zstd::Encoder::new(BufWriter::new(target), ZSTD_LEVEL)?;
    encoder.multithread(u32::try_from(threads.max(1)).unwrap_or(1))?;
    encoder.include_checksum(true)?;
    encoder.set_pledged_src_size(Some(raw.metadata()?.len()))?;
    image::stream(raw, &mut encoder)?;
    encoder.finish()?.flush()
}

fn describe(building: &Building<'_>, disk: &Disk, (written, digest): (&image::Written, &Digest)) -> Image {
    let facts = &building.root.facts;
    let partitions = disk.partitions.iter().zip(&written.placed).zip(1..).map(|((partition, at), number)| {
        let (filesystem, id, shared) = match &partition.body {
            Body::Ext4 { uuid, .. } => ("ext4", uuid.to_string(), Some(facts.root_sha256)),
            Body::FatCopy { volume_id, .. } => ("vfat", volume_name(*volume_id), Some(facts.esp_sha256)),
            Body::Fat { volume_id, .. } => ("vfat", volume_name(*volume_id), None),
        };
        Partition {
            number,
            name: partition.name.to_owned(),
            type_guid: partition.type_guid,
            guid: partition.guid,
            start: at.start,
            size: at.size,
            filesystem: filesystem.to_owned(),
            filesystem_id: id,
            shared_sha256: shared,
        }
    });
    // Which program built it decides what is reused, not what the image is: a rebuilt kiln of the same
    // source makes the same image.
    let mut inputs = document::told(building.inputs, (building.seed.is_private(), building.vault));
    inputs.remove("builder");
    Image {
        version: document::VERSION,
        kiln: env!("CARGO_PKG_VERSION").to_owned(),
        node: building.node.name.clone(),
        cluster: building.cluster.name.clone(),
        cluster_id: building.cluster.id,
        source_date: building.lock.source_date,
        disk: document::Disk {
            size: written.size,
            digest: digest.clone(),
            guid: disk.guid,
            sector_size: disk.sector_size,
            partitions: partitions.collect(),
        },
        boot: facts.boot.clone(),
        inputs,
        packages: building
            .packages
            .iter()
            .map(|package| document::Package {
                name: package.name.clone(),
                version: package.version.clone(),
                architecture: package.architecture.clone(),
                sha256: package.sha256,
            })
            .collect(),
        artefacts: building.artefacts.iter().map(document::Artefact::from).collect(),
    }
}

/// As blkid(8) shows a FAT volume id.
fn volume_name(id: u32) -> String {
    format!("{:04X}-{:04X}", id >> 16, id & 0xffff)
}
