//! A root from packages: unpacked, configured, overlaid, with its artefacts, sealed; then its boot chain and its file systems,
//! kept as blobs in the cache under the name of what they were made of.

use super::{artefacts, document, unpack};
use crate::boot;
use crate::cache::{self, Cache};
use crate::cluster::Cluster;
use crate::digest::Sha256;
use crate::image;
use crate::lock::Lock;
use crate::plan::{RootInputs, RootPlan};
use crate::render::overlay::Overlay;
use crate::rootfs;
use kiln_formats::tree::{Content, Entry, Kind, Timestamp, Tree};
use kiln_formats::{ext4, fat};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::sync::Arc;
use uuid::{Uuid, uuid};

/// Namespace of what a root's file system is seeded with.
const NAMESPACE: Uuid = uuid!("8f0f6d0e-52a5-5d0b-9a55-4b696c6e0001");
/// Kernel images that fit the ESP: the one that runs, the one before and one that is being written.
const KERNEL_IMAGES: u64 = 3;
/// Room on the ESP for the loader and for kernels that grow, at least.
const ESP_SPARE: u64 = 8 << 20;
/// Sizes of the ESP are multiples of this, so that they seldom change.
const ESP_STEP: u64 = 32 << 20;
/// FAT32 has at least 65525 clusters (fatgen103, "FAT Type Determination"), here of 4096 bytes.
const ESP_LEAST_4096: u64 = 320 << 20;
/// Sizes of root slots are multiples of this, so that an image a little larger fits the slot of an older one.
const SLOT_STEP: u64 = 64 << 20;
/// Blocks of the root's journal: it is mounted read-only, so the smallest that ext4 takes does.
const JOURNAL_BLOCKS: u32 = 1024;
/// Where a root says what it has beside packages, as dpkg's database says it of those.
pub const ARTEFACTS: &str = "usr/lib/kiln/artefacts.json";
/// Where the helper is in the root.
const HELPER: &str = "usr/lib/kiln/kiln-firstboot";

/// Why there is no root.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A package.
    #[error(transparent)]
    Unpack(#[from] unpack::Error),
    /// Configuring.
    #[error(transparent)]
    Rootfs(#[from] rootfs::Error),
    /// An artefact.
    #[error(transparent)]
    Artefacts(#[from] artefacts::Error),
    /// The boot chain.
    #[error(transparent)]
    Boot(#[from] boot::Error),
    /// The root's file system.
    #[error("root file system: {0}")]
    Ext4(#[from] ext4::Error),
    /// The ESP's file system.
    #[error("EFI system partition: {0}")]
    Fat(#[from] fat::WriteError),
    /// The root does not fit the size that the cluster file gives.
    #[error(
        "the root needs {needed} MiB and base.root_size gives {given} MiB: give it more, or leave it out"
    )]
    TooSmall {
        /// MiB that are needed.
        needed: u64,
        /// MiB that are given.
        given: u64,
    },
    /// The cache.
    #[error(transparent)]
    Cache(#[from] cache::Error),
    /// A blob can't be read or written.
    #[error("{what}: {source}")]
    Io {
        /// What was done.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

/// A root that is ready to be copied into images.
#[derive(Debug, Clone)]
pub struct Root {
    /// The ext4 file system, as large as its slot.
    pub root: Arc<File>,
    /// The FAT file system of the ESP.
    pub esp: Arc<File>,
    /// What is known of them.
    pub facts: Facts,
}

/// What is known of a root.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Facts {
    /// The boot chain.
    pub boot: boot::Facts,
    /// Bytes of the root slot.
    pub root_bytes: u64,
    /// Digest of the root's file system.
    pub root_sha256: Sha256,
    /// Bytes of the ESP.
    pub esp_bytes: u64,
    /// Digest of the ESP's file system.
    pub esp_sha256: Sha256,
    /// Files, folders and links in the root.
    pub entries: usize,
}

/// What making a root needs beside its plan.
pub struct Making<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// The lock.
    pub lock: &'a Lock,
    /// The layers, base first.
    pub overlays: &'a [Overlay],
    /// The units that they enable.
    pub enable: &'a [String],
    /// Logical sector size of the disk in bytes.
    pub sector_size: u32,
    /// What the initramfs carries beside the programs that every first boot runs.
    pub programs: &'a BTreeSet<boot::Program>,
    /// Threads to work with; the bytes are the same for any number.
    pub threads: usize,
    /// Packages and archives are unpacked again even where the cache has them unpacked.
    pub fresh: bool,
    /// Told what is going on.
    pub step: &'a (dyn Fn(&str) + Sync),
}

/// The cache's root of that key, if all of it is there.
pub fn cached(cache: &Cache, key: &str) -> Option<Root> {
    let facts = serde_json::from_reader(io::BufReader::new(cache.blob(&blob(key, "facts"))?)).ok()?;
    let (root, esp) = (cache.blob(&blob(key, "root"))?, cache.blob(&blob(key, "esp"))?);
    Some(Root { root: Arc::new(root), esp: Arc::new(esp), facts })
}

/// Makes a root from packages and artefacts that are in the cache, and keeps it there.
pub fn make(plan: &RootPlan, making: &Making<'_>, cache: &Cache) -> Result<Root, Error> {
    let tree = tree(&plan.root, making, cache)?;

    (making.step)("boot chain and file systems");
    // Both are made of the same tree, and neither waits for the other.
    let (root, esp) = std::thread::scope(|scope| {
        let esp = scope.spawn(|| esp(plan, making, (&tree, cache)));
        let root = root_system(plan, making, (tree.clone(), cache));
        (root, esp.join())
    });
    let stopped = |_| Error::Io { what: "making the ESP", source: io::Error::other("a thread ended early") };
    let (root, (esp, boot)) = (root?, esp.map_err(stopped)??);
    let facts = Facts {
        boot,
        root_bytes: root.bytes,
        root_sha256: root.sha256,
        esp_bytes: esp.bytes,
        esp_sha256: esp.sha256,
        entries: root.entries,
    };
    // The facts go last: where they are, all of it is.
    let json = serde_json::to_vec(&facts).map_err(|error| read(error.into()))?;
    store(cache, &blob(&plan.key, "facts"), |file| io::Write::write_all(file, &json))?;
    Ok(Root { root: Arc::new(root.file), esp: Arc::new(esp.file), facts })
}

/// A file system in the cache.
struct Stored {
    file: File,
    bytes: u64,
    sha256: Sha256,
    entries: usize,
}

/// The root's file system.
fn root_system(plan: &RootPlan, making: &Making<'_>, (tree, cache): (Tree, &Cache)) -> Result<Stored, Error> {
    let tree = rootfs::seal(tree);
    let bytes = slot(&tree, making.cluster.base.root_size)?;
    let time = Timestamp { secs: making.lock.source_date, nanos: 0 };
    // The seeds follow from the packages, not from the key: the key knows which program built it.
    let packages = plan.root.inputs.get("packages").map(String::as_bytes).unwrap_or_default();
    let seed = |purpose: &str| *Uuid::new_v5(&NAMESPACE, &[purpose.as_bytes(), packages].concat()).as_bytes();
    let mut options = ext4::Options::new(bytes, seed("uuid"), seed("hash"), time);
    options.label = kiln_contract::partition::LABEL_ROOT_A.to_owned();
    options.journal_blocks = Some(JOURNAL_BLOCKS);
    let file = store(cache, &blob(&plan.key, "root"), |file| {
        file.set_len(bytes)?;
        ext4::write(&tree, &options, file).map(drop).map_err(io::Error::other)
    })?;
    let (sha256, _) = image::digest(&file).map_err(read)?;
    Ok(Stored { file, bytes, sha256, entries: tree.len() })
}

/// The boot chain in its file system.
fn esp(
    plan: &RootPlan,
    making: &Making<'_>,
    (tree, cache): (&Tree, &Cache),
) -> Result<(Stored, boot::Facts), Error> {
    let time = Timestamp { secs: making.lock.source_date, nanos: 0 };
    let options = boot::Options {
        command_line: making.cluster.base.kernel_arguments.clone(),
        programs: making.programs.clone(),
        threads: making.threads,
        ..boot::Options::default()
    };
    let mut boot = boot::assemble(tree, &options)?;
    boot.esp.iter_mut().for_each(|(_, entry)| entry.meta.mtime = time);
    let needed = boot.facts.kernel_image_bytes * KERNEL_IMAGES + ESP_SPARE;
    let least = if making.sector_size == 512 { 2 * ESP_STEP } else { ESP_LEAST_4096 };
    let bytes = (needed.div_ceil(ESP_STEP) * ESP_STEP).max(least);
    let options = fat::Options {
        size: bytes,
        sector_size: making.sector_size,
        sectors_per_cluster: None,
        volume_id: 0,
        label: kiln_contract::partition::LABEL_ESP,
        created: time,
    };
    let file = store(cache, &blob(&plan.key, "esp"), |file| {
        file.set_len(bytes)?;
        fat::write(&boot.esp, &options, file).map(drop).map_err(io::Error::other)
    })?;
    let (sha256, _) = image::digest(&file).map_err(read)?;
    Ok((Stored { file, bytes, sha256, entries: boot.esp.len() }, boot.facts))
}

fn read(source: io::Error) -> Error {
    Error::Io { what: "reading a blob of the cache", source }
}

/// The file tree of a root, as configuring and overlays leave it.
pub fn tree(root: &RootInputs, making: &Making<'_>, cache: &Cache) -> Result<Tree, Error> {
    (making.step)("unpacking");
    let packages = unpack::unpack(&root.packages.packages, cache, making.threads, making.fresh)?;
    (making.step)("configuring");
    let options = rootfs::Options {
        source_date: making.lock.source_date,
        architecture: root.packages.architecture.clone(),
        scripts_skip: making.cluster.base.skip_scripts.iter().cloned().collect(),
        threads: making.threads,
    };
    let mut tree = rootfs::assemble(&packages, &options)?;
    let time = Timestamp { secs: making.lock.source_date, nanos: 0 };
    for overlay in making.overlays {
        overlay.lay(&mut tree, time);
    }
    let placing = artefacts::Placing { cache, time, fresh: making.fresh };
    for artefact in &root.artefacts {
        artefacts::place(&mut tree, artefact, &placing)?;
    }
    let mut directory = Entry::directory();
    directory.meta.mtime = time;
    if !root.artefacts.is_empty() {
        let listed: Vec<document::Artefact> = root.artefacts.iter().map(document::Artefact::from).collect();
        let mut json = serde_json::to_vec_pretty(&listed).map_err(|error| read(error.into()))?;
        json.push(b'\n');
        let mut list = Entry::new(Kind::File(Content::bytes(json)), 0o644);
        list.meta.mtime = time;
        tree.make_parents(ARTEFACTS, &directory);
        tree.insert(ARTEFACTS, list);
    }
    rootfs::directories(&mut tree, &making.cluster.directories(), time)?;
    // Nodes that share a root mount their disks at different places, and nothing can be made in it later.
    for place in making.cluster.mount_roots().iter().filter(|place| !tree.contains(place)).collect::<Vec<_>>()
    {
        tree.insert(place, directory.clone());
    }
    let mut helper = Entry::new(Kind::File(Content::bytes(boot::helper::AMD64)), 0o755);
    helper.meta.mtime = time;
    tree.make_parents(HELPER, &directory);
    tree.insert(HELPER, helper);
    rootfs::enable(&mut tree, making.enable, time)?;
    Ok(tree)
}

/// Bytes of the slot: a fifth more than is needed today, or what the user says.
fn slot(tree: &Tree, asked: Option<u64>) -> Result<u64, Error> {
    let needed = ext4::minimum_size(tree)?;
    match asked {
        Some(given) if given < needed => {
            Err(Error::TooSmall { needed: needed.div_ceil(1 << 20), given: given >> 20 })
        }
        Some(given) => Ok(given),
        None => Ok((needed + needed / 5).div_ceil(SLOT_STEP) * SLOT_STEP),
    }
}

fn store(
    cache: &Cache,
    key: &str,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<File, cache::Error> {
    cache.store_blob(key, write)
}

/// Name of a part of a root in the cache.
fn blob(key: &str, part: &str) -> String {
    blake3::hash(format!("{key} {part}").as_bytes()).to_hex().to_string()
}
