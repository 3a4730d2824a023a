//! What a node's disks are for: the part of the handoff document that the cluster file's `disks` becomes.

pub mod check;

use crate::glob;
use crate::machine::{Disk, Transport};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The disks of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The disk that the node boots from.
    pub system: System,
    /// Rules for all others, in the order of the cluster file.
    #[serde(default)]
    pub data: Vec<Rule>,
    /// Serial numbers of disks that may be emptied, whatever is on them.
    #[serde(default)]
    pub erase: Vec<String>,
}

impl Policy {
    /// True when anything is to be encrypted.
    pub fn encrypts(&self) -> bool {
        self.system.encrypt.is_some() || self.data.iter().any(|rule| rule.encrypt.is_some())
    }
}

/// The disk that the node boots from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct System {
    /// A swap partition between root-b and state.
    #[serde(default)]
    pub swap: Option<Swap>,
    /// The state partition is encrypted.
    #[serde(default)]
    pub encrypt: Option<Encryption>,
}

/// A swap partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Swap {
    /// Size in bytes.
    pub bytes: u64,
    /// Unique partition GUID.
    pub partition: Uuid,
    /// UUID of the swap area.
    pub filesystem: Uuid,
}

/// LUKS2 on a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encryption {
    /// UUID of the LUKS header.
    pub luks: Uuid,
    /// Where the key is.
    pub key: Key,
}

/// Where the key of an encrypted partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Key {
    /// In the machine's TPM 2.0; without one the disk is refused.
    Tpm2,
    /// In the TPM where there is one, in the seed otherwise.
    Auto,
    /// In the seed.
    Seed,
}

/// What becomes of the disks that fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Name in the cluster file, unique in the node.
    pub name: String,
    /// Which disks fit: every word that is given must.
    #[serde(rename = "match")]
    pub matching: Match,
    /// Disks that fit any of these are left out.
    #[serde(default)]
    pub exclude: Vec<Match>,
    /// What they are for.
    #[serde(rename = "use")]
    pub usage: Use,
    /// One for each disk that the rule takes, in the order in which they are given away; as many as `count`.
    pub slots: Vec<Slot>,
    /// File system of `longhorn` and `mount`.
    #[serde(default)]
    pub filesystem: FileSystem,
    /// Options to mount with, beside those that Kiln sets.
    #[serde(default)]
    pub mount_options: Vec<String>,
    /// Longhorn's tags of the disk.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Bytes that Longhorn leaves free on each disk.
    #[serde(default)]
    pub reserved: u64,
    /// The partition is encrypted.
    #[serde(default)]
    pub encrypt: Option<Key>,
    /// Removable disks fit, too: the rule names them by serial, WWN, by-id name, path or transport.
    #[serde(default)]
    pub removable: bool,
}

/// Least size (bytes) of a disk that ext4 or a physical volume goes on: partition table, journal and some room.
const LEAST: u64 = 64 << 20;
/// Least size (bytes) of a disk that XFS goes on: mkfs.xfs refuses less than 300 MiB (xfsprogs 5.19), and the
/// partition table takes 2 MiB.
const LEAST_XFS: u64 = 304 << 20;
/// What a LUKS2 header takes (bytes): cryptsetup's default data offset.
const LUKS_HEADER: u64 = 16 << 20;

impl Rule {
    /// True when a disk has all the words of `match` and none of `exclude` has it. Whether it may be taken is
    /// another question.
    pub fn fits(&self, disk: &Disk) -> bool {
        self.matching.fits(disk) && !self.leaves_out(disk)
    }

    /// True when one of `exclude` has the disk.
    pub fn leaves_out(&self, disk: &Disk) -> bool {
        self.exclude.iter().any(|exclude| exclude.fits(disk))
    }

    /// True when its disks are written to.
    pub fn writes(&self) -> bool {
        self.usage != Use::Raw
    }

    /// Least size in bytes of a disk that can be used so.
    pub fn least_size(&self) -> u64 {
        let header = if self.encrypt.is_some() { LUKS_HEADER } else { 0 };
        match (self.usage, self.filesystem) {
            (Use::Raw, _) => 0,
            (Use::Longhorn | Use::Mount, FileSystem::Xfs) => LEAST_XFS + header,
            (Use::Longhorn | Use::Mount, FileSystem::Ext4) | (Use::Lvm, _) => LEAST + header,
        }
    }
}

/// The place of one disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// The rule's name, or with several `name-1`, `name-2`, …
    pub name: String,
    /// Unique GUID of the partition on it.
    pub partition: Uuid,
    /// UUID of the file system on that.
    pub filesystem: Uuid,
    /// UUID of the LUKS header around that.
    pub luks: Uuid,
    /// UUID in `longhorn-disk.cfg`; its first four characters are unique in the cluster.
    pub longhorn: Uuid,
    /// Where it is mounted; nothing for `raw` and `lvm`.
    #[serde(default)]
    pub mount_point: Option<String>,
}

/// What a data disk is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Use {
    /// A file system that Longhorn keeps replicas on.
    Longhorn,
    /// Left as it is for somebody else, such as Ceph: nothing is ever written to it.
    Raw,
    /// A file system mounted at a place of the user's choice.
    Mount,
    /// A partition for LVM: a physical volume of the volume group that has the rule's name.
    Lvm,
}

impl Use {
    /// All of them with their words.
    pub const ALL: [(Self, &'static str); 4] =
        [(Self::Longhorn, "longhorn"), (Self::Raw, "raw"), (Self::Mount, "mount"), (Self::Lvm, "lvm")];

    /// Its word in cluster files.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(usage, _)| *usage == self).map_or("raw", |(_, word)| word)
    }
}

/// File system of a data disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileSystem {
    /// ext4.
    #[default]
    Ext4,
    /// XFS.
    Xfs,
}

impl FileSystem {
    /// Its word, which is mount(8)'s, too.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }
}

/// What a disk is recognised by. Texts are shell patterns (`*`, `?`, `[a-z]`), sizes are bytes, both ends included.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// Serial number.
    pub serial: Option<String>,
    /// World wide name.
    pub wwn: Option<String>,
    /// Any of the names below /dev/disk/by-id.
    pub by_id: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// Vendor.
    pub vendor: Option<String>,
    /// The way to the disk.
    pub transport: Option<Transport>,
    /// It spins, or does not; a disk that does not tell fits neither.
    pub rotational: Option<bool>,
    /// Least size in bytes.
    pub min_size: Option<u64>,
    /// Greatest size in bytes.
    pub max_size: Option<u64>,
    /// Any of the names below /dev/disk/by-path.
    pub path: Option<String>,
}

impl Match {
    /// True when a disk has every word that is given. A text that the disk does not have fits no pattern, not even
    /// `*`; without any word every disk fits.
    pub fn fits(&self, disk: &Disk) -> bool {
        let text = |pattern: &Option<String>, text: &str| {
            let matches =
                |pattern: &String| !text.is_empty() && glob::matches(pattern.as_bytes(), text.as_bytes());
            pattern.as_ref().is_none_or(matches)
        };
        text(&self.serial, &disk.serial)
            && text(&self.wwn, &disk.wwn)
            && (self.by_id.is_none() || disk.by_id.iter().any(|name| text(&self.by_id, name)))
            && text(&self.model, &disk.model)
            && text(&self.vendor, &disk.vendor)
            && self.transport.is_none_or(|transport| transport == disk.transport)
            && self.rotational.is_none_or(|rotational| Some(rotational) == disk.rotational)
            && self.min_size.is_none_or(|least| disk.size >= least)
            && self.max_size.is_none_or(|most| disk.size <= most)
            && (text(&self.path, &disk.path) || disk.other_paths.iter().any(|path| text(&self.path, path)))
    }
}
