//! A node's disks.

use kiln_contract::policy::{FileSystem, Key, Match, Use};
use uuid::Uuid;

const XFS: &[&str] = &["xfsprogs"];
const LVM: &[&str] = &["lvm2"];
const LUKS: &[&str] = &["cryptsetup-bin", "systemd-cryptsetup"];
/// Libraries that systemd opens by name, which is why no package depends on them.
const TPM2: &[&str] =
    &["libtss2-esys-3.0.2-0t64", "libtss2-mu-4.0.1-0t64", "libtss2-rc0t64", "libtss2-tcti-device0t64"];

/// What a node's disks are for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Disks {
    /// Bytes of the system disk, or of the smallest that it may be.
    pub size: Option<u64>,
    /// Bytes of a sector of the system disk, when that is said here.
    pub sector_size: Option<u32>,
    /// Bytes of a swap partition on the system disk, a multiple of 1 MiB.
    pub swap: Option<u64>,
    /// The state partition is encrypted: where its key is.
    pub encrypt: Option<Key>,
    /// Rules for all disks but the system disk.
    pub data: Vec<DiskRule>,
    /// Serial numbers of disks that may be emptied.
    pub erase: Vec<String>,
}

/// Which disks, and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskRule {
    /// Name, unique in the node.
    pub name: String,
    /// Which disks fit.
    pub matching: Match,
    /// Which of them are left out.
    pub exclude: Vec<Match>,
    /// What they are for.
    pub usage: Use,
    /// A place for each disk.
    pub slots: Vec<DiskSlot>,
    /// File system.
    pub filesystem: FileSystem,
    /// Options to mount with.
    pub mount_options: Vec<String>,
    /// Longhorn's tags.
    pub tags: Vec<String>,
    /// Bytes that Longhorn leaves free.
    pub reserved: u64,
    /// The disks are encrypted: where their keys are.
    pub encrypt: Option<Key>,
}

/// The place of one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSlot {
    /// Name, unique in the node.
    pub name: String,
    /// Where the disk is mounted.
    pub mount_point: Option<String>,
    /// Longhorn's UUID of the disk; its first four characters are unique in the cluster.
    pub longhorn: Uuid,
}

impl Disks {
    /// Every place for a data disk.
    pub fn slots(&self) -> impl Iterator<Item = &DiskSlot> {
        self.data.iter().flat_map(|rule| &rule.slots)
    }
    /// True when a disk has an XFS file system.
    pub fn has_xfs(&self) -> bool {
        let formatted = |rule: &&DiskRule| matches!(rule.usage, Use::Longhorn | Use::Mount);
        self.data.iter().filter(formatted).any(|rule| rule.filesystem == FileSystem::Xfs)
    }
    /// Packages that these disks need on the node.
    pub fn packages(&self) -> Vec<&'static str> {
        let xfs = self.has_xfs();
        let lvm = self.data.iter().any(|rule| rule.usage == Use::Lvm);
        [
            (xfs, XFS),
            (lvm, LVM),
            (self.keys().next().is_some(), LUKS),
            (self.keys().any(|key| key != Key::Seed), TPM2),
        ]
        .into_iter()
        .filter(|(needed, _)| *needed)
        .flat_map(|(_, packages)| packages.iter().copied())
        .collect()
    }
    /// Where the keys of encrypted partitions are.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.encrypt.into_iter().chain(self.data.iter().filter_map(|rule| rule.encrypt))
    }
}

impl DiskRule {
    /// True when the rule names its disks by what they are or by where they are: then removable ones are meant, too.
    pub fn names_its_disks(&self) -> bool {
        use kiln_contract::machine::Transport::{Mmc, Usb};
        let Match { serial, wwn, by_id, path, transport, .. } = &self.matching;
        // A pattern that takes any text names nothing.
        let names = |pattern: &Option<String>| {
            pattern.as_ref().is_some_and(|pattern| pattern.contains(|c| !matches!(c, '*' | '?')))
        };
        matches!(transport, Some(Usb | Mmc)) || [serial, wwn, by_id, path].into_iter().any(names)
    }
}
