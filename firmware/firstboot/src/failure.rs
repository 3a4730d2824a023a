//! What can go wrong in the initramfs, and what to do about it.

use crate::choose::Reason;
use crate::disks::{self, Disk};
use crate::{format, luks, partition};
use kiln_contract::handoff;
use kiln_contract::plan::human;
use std::io;
use uuid::Uuid;

/// A failure that ends the boot. `Display` says what was looked for and what went wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// /proc, /sys, /dev or /run.
    #[error("the kernel's {fstype} can't be mounted on {target}: {error}")]
    KernelMount { fstype: &'static str, target: &'static str, error: io::Error },
    /// The initramfs is another kernel's.
    #[error("this initramfs holds no modules for the running kernel: {directory}/modules.dep: {error}")]
    NoModules { directory: String, error: io::Error },
    /// The firmware booted from an ESP that no disk has.
    #[error(
        "no disk that this kernel sees carries the ESP that the firmware booted from\n  looked for: ESP {esp}, for {seconds} s"
    )]
    NoDisk { esp: Uuid, seconds: u64, disks: Vec<Disk> },
    /// No EFI variables, and no disk of Kiln's shape.
    #[error(
        "no disk holds a Kiln image\n  looked for: a disk with ESP, CIDATA and root partitions, for {seconds} s\n  (no EFI variable names the booted disk)"
    )]
    NoKilnDisk { seconds: u64, disks: Vec<Disk> },
    /// The same ESP on several disks.
    #[error("disks {} carry one and the same ESP: which of them was booted can't be told\n  looked for: ESP {esp}", names.join(" and "))]
    Twins { esp: Uuid, names: Vec<String>, disks: Vec<Disk> },
    /// No EFI variables, and several disks of Kiln's shape.
    #[error("disks {} all hold a Kiln image, and no EFI variable says which was booted", names.join(" and "))]
    Several { names: Vec<String>, disks: Vec<Disk> },
    /// Not exactly one partition of a kind.
    #[error("the booted disk {disk} has {count} partitions of type {kind}, where it must have one")]
    Partition { disk: String, kind: &'static str, count: usize, disks: Vec<Disk> },
    /// The seed's file system can't be mounted.
    #[error("the seed partition {device} (CIDATA) can't be mounted: {error}")]
    SeedMount { device: String, error: io::Error, disk: Box<Disk> },
    /// The document can't be read.
    #[error("the seed partition {device} (CIDATA) has no readable {path}: {error}")]
    SeedRead { device: String, path: &'static str, error: io::Error, disk: Box<Disk> },
    /// The document is not good.
    #[error("{} on {device} (CIDATA) can't be used: {error}", handoff::PATH)]
    Handoff { device: String, error: handoff::Error, disk: Box<Disk> },
    /// The seed was made for another disk image.
    #[error("the seed on this disk belongs to another image: it names {what} {says}, this disk's is {is}")]
    OtherSeed { disk: Box<Disk>, what: &'static str, says: Uuid, is: Uuid },
    /// The root is not on the disk.
    #[error("the root partition is missing on the booted disk {}\n  looked for: root {guid}", disk.name)]
    NoRoot { disk: Box<Disk>, guid: Uuid },
    /// The root's file system is not good.
    #[error("the root {device} can't be mounted: {error}")]
    RootMount { device: String, error: io::Error },
    /// The booted disk's own table.
    #[error("the partition table of the booted disk {} can't be read: {error}", disk.name)]
    OwnTable { disk: Box<Disk>, error: String },
    /// No room for the partitions that the first boot makes.
    #[error(
        "the booted disk is too small: it has {}, and this node needs {}", human(*disk_size), disks::human_up(*needed)
    )]
    NoRoom { disk_size: u64, needed: u64 },
    /// The booted disk's own table, again.
    #[error("the booted disk {} can't be partitioned: {error}", disk.name)]
    OwnWrite { disk: Box<Disk>, error: partition::Error },
    /// The state partition's file system can't be made.
    #[error("the state partition {device} can't be formatted: {error}")]
    FormatState { device: String, error: format::Error },
    /// The state partition can't be encrypted.
    #[error("the state partition {device} can't be encrypted: {error}")]
    EncryptState { device: String, error: luks::Error },
    /// The state partition is encrypted, and stays closed.
    #[error("the state partition {device} is encrypted and can't be opened: {error}")]
    UnlockState { device: String, error: luks::Error },
    /// The state partition's file system is not good.
    #[error("the state partition {device} can't be mounted: {error}")]
    StateMount { device: String, error: io::Error },
    /// A step in the root.
    #[error("can't {what}: {error}")]
    Root { what: String, error: io::Error },
    /// The root holds no system.
    #[error("the root holds no {path}")]
    NoSystemd { path: &'static str },
    /// The last step.
    #[error("{path} can't be started: {error}")]
    Exec { path: &'static str, error: io::Error },
    /// A fault of the helper itself.
    #[error("kiln-firstboot itself failed: {0}")]
    Panic(String),
}

impl Failure {
    /// The failure that a missing choice is.
    pub(crate) fn of_reason(reason: Reason, esp: Option<Uuid>, (seconds, disks): (u64, Vec<Disk>)) -> Self {
        match (reason, esp) {
            (Reason::None, Some(esp)) => Self::NoDisk { esp, seconds, disks },
            (Reason::None, None) => Self::NoKilnDisk { seconds, disks },
            (Reason::Several(names), Some(esp)) => Self::Twins { esp, names, disks },
            (Reason::Several(names), None) => Self::Several { names, disks },
            (Reason::Partition(disk, kind, count), _) => Self::Partition { disk, kind, count, disks },
        }
    }

    /// What was found, as a table; nothing when disks are not the matter.
    pub(crate) fn found(&self) -> Option<String> {
        match self {
            Self::NoDisk { disks, .. }
            | Self::NoKilnDisk { disks, .. }
            | Self::Twins { disks, .. }
            | Self::Several { disks, .. }
            | Self::Partition { disks, .. } => Some(disks::table(disks)),
            Self::SeedMount { disk, .. }
            | Self::SeedRead { disk, .. }
            | Self::Handoff { disk, .. }
            | Self::OtherSeed { disk, .. }
            | Self::OwnTable { disk, .. }
            | Self::OwnWrite { disk, .. }
            | Self::NoRoot { disk, .. } => Some(disks::table(std::slice::from_ref(disk.as_ref()))),
            _ => None,
        }
    }

    /// What to do about it.
    pub(crate) fn remedy(&self) -> String {
        match self {
            Self::NoDisk { .. } | Self::NoKilnDisk { .. } => {
                "If the disk is not listed, its controller needs a driver that this image lacks, or more time:\n\
                 build the image with kiln.disk_timeout=180 among `base.kernel_arguments`; in the firmware's setup,\n\
                 set the storage controller to AHCI instead of RAID. If it is listed, write the image to it again."
                    .to_owned()
            }
            Self::Twins { .. } => {
                "One image was written to several disks. Take all but one of them out (a stick that was copied\n\
                 to the disk, above all) or write each disk from its own `kiln build`."
                    .to_owned()
            }
            Self::Several { .. } => "Take all but one of them out, or boot through UEFI firmware.".to_owned(),
            Self::Partition { .. } | Self::OtherSeed { .. } | Self::NoRoot { .. } => {
                "The disk was changed since its image was written. Write the node's disk.img to it again.".to_owned()
            }
            Self::SeedMount { .. } | Self::SeedRead { .. } | Self::Handoff { .. } => {
                "The seed is damaged or incomplete. Write the node's disk.img to the disk again, made by one and\n\
                 the same version of kiln throughout."
                    .to_owned()
            }
            Self::NoRoom { .. } => {
                "Write the image to a larger disk: a second slot for the system, and what the node stores, go\n\
                 behind the image. Nothing was written."
                    .to_owned()
            }
            Self::OwnTable { .. } | Self::OwnWrite { .. } | Self::FormatState { .. } => {
                "The disk may be failing, or refuse writes (a card's lock, a stick's switch); the kernel's own\n\
                 messages say more (an image with kiln.debug among `base.kernel_arguments` shows them). If the disk\n\
                 is good, write the node's disk.img to it again."
                    .to_owned()
            }
            Self::EncryptState { error: luks::Error::NoTpm, .. } => "Nothing was encrypted.".to_owned(),
            Self::EncryptState { .. } => {
                "Boot again: it begins anew, and nothing is lost. If it fails again, leave `encrypt` out of the\n\
                 cluster file, or write an image of another build."
                    .to_owned()
            }
            Self::UnlockState { .. } => {
                "The key is in the TPM of the machine that this disk was first booted in, or in this disk's seed. Put\n\
                 the disk back into that machine, with its TPM on and not cleared. If that machine or its TPM is\n\
                 gone, so is what was in /var: write the node's disk.img to the disk again."
                    .to_owned()
            }
            Self::RootMount { device, .. } => check_hint(device, "or write the node's disk.img to it again"),
            Self::StateMount { device, .. } => check_hint(device, "it holds this node's data, so keep a copy first"),
            Self::NoSystemd { .. } | Self::Exec { .. } => {
                "The root is incomplete. Build the image again and write it to the disk.".to_owned()
            }
            Self::NoModules { .. } => {
                "Kernel and initramfs are of different builds. Build the image again.".to_owned()
            }
            Self::KernelMount { .. } => "This kernel was built without what Kiln needs.".to_owned(),
            Self::Root { .. } => {
                "Full or failing storage is the usual reason; the kernel's own messages say more (an image with\n\
                 kiln.debug among `base.kernel_arguments` shows them)."
                    .to_owned()
            }
            Self::Panic(_) => "This is a bug in Kiln. Please report the text above.".to_owned(),
        }
    }
}

fn check_hint(device: &str, otherwise: &str) -> String {
    format!(
        "Its file system is damaged or of no known kind. From a rescue system: e2fsck -f {device}\n\
         (try e2fsck -b 32768 {device} when the superblock is gone); {otherwise}."
    )
}
