//! A machine's disks as they were found, in the form in which `kiln-firstboot probe` records them and
//! `kiln plan --disks` reads them. Nothing in here is decided, only seen.

pub mod record;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The only version of a record that this code writes and reads.
pub const VERSION: u32 = 1;

/// What a [`Signature`] is called that is none: bytes that are neither all zeros nor all ones, and that no probe knows.
/// Where the first of them were found is in its label.
pub const UNSIGNED: &str = "unsigned";

/// The disks of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Always [`VERSION`].
    pub version: u32,
    /// What firmware calls the machine (DMI: vendor and product); empty when it does not say.
    #[serde(default)]
    pub product: String,
    /// Whole disks, sorted by name.
    pub disks: Vec<Disk>,
}

/// A whole disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Kernel name: `sda`. It may be another one at the next boot.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// Logical sector size in bytes.
    pub sector_size: u32,
    /// The machine was booted from it.
    #[serde(default)]
    pub booted: bool,
    /// It refuses writes.
    #[serde(default)]
    pub read_only: bool,
    /// Its medium, or the disk itself, is made to be taken out (sysfs `removable`, and every USB or card-reader disk).
    #[serde(default)]
    pub removable: bool,
    /// It spins; nothing when the device does not tell.
    #[serde(default)]
    pub rotational: Option<bool>,
    /// The way to it.
    pub transport: Transport,
    /// Model, blanks at its ends removed; empty when it gives none.
    #[serde(default)]
    pub model: String,
    /// Vendor; empty when it gives none.
    #[serde(default)]
    pub vendor: String,
    /// Serial number; empty when it gives none.
    #[serde(default)]
    pub serial: String,
    /// World wide name as udev has it (`0x5002538e40000000`, `eui.…`, `nvme.…`); empty when it gives none.
    #[serde(default)]
    pub wwn: String,
    /// Names that udev gives it below /dev/disk/by-id, sorted.
    #[serde(default)]
    pub by_id: Vec<String>,
    /// Name that udev gives it below /dev/disk/by-path: `pci-0000:00:1f.2-ata-1`; empty when there is none.
    #[serde(default)]
    pub path: String,
    /// Other names that udev gives it there: `pci-0000:00:1f.2-ata-1.0` and `pci-0000:00:1f.2-ata-1` are one place.
    #[serde(default)]
    pub other_paths: Vec<String>,
    /// What blkid found on the whole disk, a partition table included.
    pub content: Content,
    /// Its GUID partition table, from either copy.
    #[serde(default)]
    pub table: Option<Table>,
}

/// What is on a disk, partition tables and file systems alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Every probe looked, and none knows anything that it saw; and all that was read was empty.
    Blank,
    /// What was found; never empty.
    Signatures(Vec<Signature>),
    /// It could not be read, or the probe itself failed: the reason.
    Unreadable(String),
}

/// A signature, in the words of libblkid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// `ext4`, `LVM2_member`, `crypto_LUKS`, `zfs_member`, `ceph_bluestore`, `gpt`, …, or [`UNSIGNED`].
    pub kind: String,
    /// Label, when it has one.
    #[serde(default)]
    pub label: String,
    /// UUID, when it has one, as text: not every format's is a UUID.
    #[serde(default)]
    pub uuid: String,
    /// Which partition carries it; nothing for the disk itself.
    #[serde(default)]
    pub partition: Option<u32>,
}

/// A GUID partition table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// The disk's identifier.
    pub disk_guid: Uuid,
    /// Entries in use.
    pub partitions: Vec<Partition>,
    /// Bytes of the sectors that it counts in, when they are not the disk's: the disk was divided behind another bridge or
    /// controller, and the kernel shows none of its partitions here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sector_size: Option<u32>,
}

/// An entry of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// From 1.
    pub number: u32,
    /// Partition type GUID.
    pub kind: Uuid,
    /// Unique partition GUID.
    pub guid: Uuid,
    /// Partition name.
    pub label: String,
    /// First byte.
    pub start: u64,
    /// Size in bytes.
    pub size: u64,
}

/// The way to a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// NVM Express.
    Nvme,
    /// ATA, serial or parallel.
    Sata,
    /// Serial attached SCSI.
    Sas,
    /// Any other SCSI: parallel, virtual, RAID controllers.
    Scsi,
    /// USB, UAS as well.
    Usb,
    /// SD, MMC and eMMC.
    Mmc,
    /// virtio-blk.
    Virtio,
    /// iSCSI.
    Iscsi,
    /// Fibre Channel.
    Fc,
    /// Something else.
    Other,
}

impl Transport {
    /// All of them with their words.
    pub const ALL: [(Self, &'static str); 10] = [
        (Self::Nvme, "nvme"),
        (Self::Sata, "sata"),
        (Self::Sas, "sas"),
        (Self::Scsi, "scsi"),
        (Self::Usb, "usb"),
        (Self::Mmc, "mmc"),
        (Self::Virtio, "virtio"),
        (Self::Iscsi, "iscsi"),
        (Self::Fc, "fc"),
        (Self::Other, "other"),
    ];

    /// Its word in cluster files and records.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(transport, _)| *transport == self).map_or("other", |(_, word)| word)
    }
}
