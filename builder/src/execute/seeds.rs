//! A node's seed as files: the documents for an address, and volumes that carry them.

use super::document::{self, Digest, Manifest};
use super::output::{self, MANIFEST, Output};
use crate::boot::helper;
use crate::cluster::identity::Medium;
use crate::cluster::{Cluster, Node};
use crate::digest::Sha256;
use crate::render::{Seed, Target, Vault};
use kiln_contract::{addresses, handoff, join, partition};
use kiln_formats::tree::{Entry, Timestamp, Tree};
use kiln_formats::{fat, iso9660};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Where the helper is on the volume of a stock image.
pub const HELPER: &str = "kiln/kiln-firstboot";
/// A volume begins at this size, which FAT16 with clusters of 512 bytes has room for, and grows in steps of a MiB.
const FAT_MIB: u64 = 3;
/// No seed needs more.
const FAT_MIB_MAX: u64 = 64;

/// Why a seed was not written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The output folder.
    #[error(transparent)]
    Output(#[from] output::Error),
    /// A volume.
    #[error("{path}: {reason}")]
    Volume {
        /// The file.
        path: String,
        /// What its format says.
        reason: String,
    },
}

/// A seed to write.
pub struct Seeding<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// The node.
    pub node: &'a Node,
    /// Its seed.
    pub seed: &'a Seed,
    /// What it is for.
    pub target: Target,
    /// What digests of files with secrets are keyed by.
    pub vault: &'a dyn Vault,
    /// The time that everything in it carries.
    pub time: Timestamp,
}

/// What the CIDATA volume of a Kiln image holds.
pub fn tree(seed: &Seed, time: Timestamp) -> Tree {
    let mut tree = Tree::new();
    let handoff = seed.handoff.to_bytes();
    let addresses = seed.addresses.to_bytes();
    let mut files: Vec<(&str, &[u8])> = vec![
        ("meta-data", seed.meta_data.as_bytes()),
        ("user-data", seed.user_data.as_bytes()),
        ("network-config", seed.network_config.as_bytes()),
        // Without it cloud-init asks a server that serves the seed eleven times, for ten seconds, at every boot.
        ("vendor-data", b""),
        (handoff::PATH, &handoff),
        (addresses::PATH, &addresses),
    ];
    files.extend(seed.public_user_data.as_ref().map(|text| (join::AFTER, text.as_bytes())));
    for (path, bytes) in files {
        tree.make_parents(path, &Entry::directory());
        tree.insert(path, Entry::file(bytes));
    }
    tree.iter_mut().for_each(|(_, entry)| entry.meta.mtime = time);
    tree
}

/// Whether only its owner may read a file of the seed.
pub fn is_private(path: &str, seed: &Seed) -> bool {
    match path.rsplit('/').next() {
        Some("user-data") => true,
        Some("network-config") => seed.private_network,
        _ => false,
    }
}

/// Writes `<node>/seed/` below the output folder and gives the digests of its files by path. A file that is as it should
/// be already is left alone.
pub fn write(seeding: &Seeding<'_>, output: &Output) -> Result<BTreeMap<String, document::File>, Error> {
    let (seed, node) = (seeding.seed, &seeding.node.name);
    let folder = format!("{node}/seed");
    let mut tree = tree(seed, seeding.time);
    if seeding.target == Target::Stock {
        tree.make_parents(HELPER, &Entry::directory());
        tree.insert(HELPER, Entry::file(helper::AMD64));
        tree.iter_mut().for_each(|(_, entry)| entry.meta.mtime = seeding.time);
    }
    let mut writing = Writing { output, seed, node, vault: seeding.vault, files: BTreeMap::new() };
    writing.keep(format!("{folder}/meta-data"), seed.meta_data.as_bytes())?;
    writing.keep(format!("{folder}/user-data"), seed.user_data.as_bytes())?;
    writing.keep(format!("{folder}/network-config"), seed.network_config.as_bytes())?;
    writing.keep(format!("{folder}/vendor-data"), b"")?;
    if seeding.target == Target::Stock {
        // What a volume has beside the documents, a machine that was given an address fetches from there.
        writing.keep(format!("{folder}/{HELPER}"), helper::AMD64)?;
    }
    let identity = seeding.cluster.identity(seeding.node);
    let volume_id = identity.fat_volume_id(partition::LABEL_CIDATA, Medium::Stick);
    let path = format!("{folder}/cidata.img");
    let image = fat_volume(&tree, volume_id, seeding.time)
        .map_err(|reason| Error::Volume { path: path.clone(), reason })?;
    writing.keep(path, &image)?;
    let path = format!("{folder}/cidata.iso");
    let image =
        iso_volume(&tree, seeding.time).map_err(|reason| Error::Volume { path: path.clone(), reason })?;
    writing.keep(path, &image)?;
    Ok(writing.files)
}

/// Files on their way to the output folder.
struct Writing<'a> {
    output: &'a Output,
    seed: &'a Seed,
    node: &'a str,
    vault: &'a dyn Vault,
    files: BTreeMap<String, document::File>,
}

impl Writing<'_> {
    fn keep(&mut self, path: String, bytes: &[u8]) -> Result<(), Error> {
        let volume = path.ends_with(".img") || path.ends_with(".iso");
        let private = volume || is_private(&path, self.seed);
        let sha256 = if stands(&self.output.folder().join(&path), bytes, private) {
            Sha256::of(bytes)
        } else {
            // An image that was built with the old one is to be built anew.
            self.output.forget(self.node);
            if private {
                self.output.write_private(&path, bytes)?
            } else {
                self.output.write(&path, bytes)?
            }
        };
        let digest = if private { Digest::private(sha256, self.vault) } else { Digest::public(sha256) };
        self.files.insert(path, document::File { size: bytes.len() as u64, digest });
        Ok(())
    }
}

/// True when the file holds these bytes and nobody may read it who should not.
fn stands(path: &Path, bytes: &[u8], private: bool) -> bool {
    let Ok(meta) = fs::metadata(path) else { return false };
    let open = meta.permissions().mode() & 0o077 != 0;
    meta.len() == bytes.len() as u64 && !(private && open) && fs::read(path).is_ok_and(|have| have == bytes)
}

/// Writes what `manifest.json` says of these files, where the folder has one of this cluster.
pub fn note(
    files: &BTreeMap<String, document::File>,
    cluster: &Cluster,
    output: &Output,
) -> Result<(), output::Error> {
    let read = fs::read(output.folder().join(MANIFEST)).ok();
    let Some(mut manifest) = read.and_then(|bytes| serde_json::from_slice::<Manifest>(&bytes).ok()) else {
        return Ok(());
    };
    if manifest.cluster_id != cluster.id
        || files.iter().all(|(path, file)| manifest.files.get(path) == Some(file))
    {
        return Ok(());
    }
    manifest.files.extend(files.iter().map(|(path, file)| (path.clone(), file.clone())));
    let json =
        serde_json::to_vec_pretty(&manifest).map_err(|e| output::Error::io(Path::new(MANIFEST), e.into()))?;
    output.write_flushed(MANIFEST, &[&json[..], b"\n"].concat()).map(drop)
}

/// The smallest volume that the tree fits in.
fn fat_volume(tree: &Tree, volume_id: u32, created: Timestamp) -> Result<Vec<u8>, String> {
    let mut mib = FAT_MIB;
    loop {
        let size = mib << 20;
        let mut bytes = Vec::new();
        let label = partition::LABEL_CIDATA;
        let options =
            fat::Options { size, sector_size: 512, sectors_per_cluster: None, volume_id, label, created };
        match fat::write(tree, &options, &mut bytes) {
            Ok(_) => {
                bytes.resize(usize::try_from(size).map_err(|error| error.to_string())?, 0);
                return Ok(bytes);
            }
            Err(fat::WriteError::Full { .. }) if mib < FAT_MIB_MAX => mib += 1,
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn iso_volume(tree: &Tree, created: Timestamp) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let options = iso9660::Options { label: partition::LABEL_CIDATA, created };
    iso9660::write(tree, &options, &mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}
