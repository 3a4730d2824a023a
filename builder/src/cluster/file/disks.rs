//! `disks`: what a node's disks are for, as it is written.

use crate::cluster::read::{Spanned, Text, document, words};
use kiln_contract::{machine, policy};

/// Words that the contract has, too: defined with the descriptions that editors show, and turned into the contract's.
macro_rules! shared_words {
    (
        $(#[$meta:meta])*
        $name:ident, $contract:ty, $what:literal { $($(#[$vmeta:meta])* $variant:ident = $word:literal,)* }
    ) => {
        words! { $(#[$meta])* $name, $what { $($(#[$vmeta])* $variant = $word,)* } }
        impl From<$name> for $contract {
            fn from(word: $name) -> Self {
                match word { $($name::$variant => Self::$variant,)* }
            }
        }
        #[cfg(test)]
        impl $name {
            const ALL: &'static [Self] = &[$(Self::$variant),*];
        }
    };
}

document! {
    /// What a node's disks are for. A node without `disks` of its own has those of the file's top; `disks: {}` is none.
    DisksSection, "`disks`",
    required {}
    optional {
        /// The disk that the node boots from.
        system: SystemDiskSection,
        /// Rules for all other disks. A disk that no rule takes is never written to.
        data: Spanned<Vec<DataDiskSection>>,
        /// Exact serial numbers of disks that may be emptied, whatever is on them. Any other disk with something on it
        /// is refused.
        erase: Vec<Text>,
    }
}

document! {
    /// The disk that a node boots from.
    SystemDiskSection, "`system`",
    required {}
    optional {
        /// Size of the disk with its unit, such as `64GB`; of several kinds, of the smallest. An image that does not fit,
        /// with room for an update beside it, is refused when it is built; without it, by the node when it boots.
        #[schemars(extend("pattern" = "^[0-9]+(\\.[0-9]+)? ?([KMGT]i?)?B?$", "examples" = ["64GB"]))]
        size: Text,
        /// Size of a swap partition with its unit, such as `4GiB`. No swap when left out.
        #[schemars(extend("pattern" = "^[0-9]+(\\.[0-9]+)? ?([KMGT]i?)?B?$", "examples" = ["4GiB"]))]
        swap: Text,
        /// Logical sector size of the disk in bytes: 512 (default) or 4096. An image for the one is not found by firmware on a disk
        /// with the other.
        #[schemars(extend("enum" = [512, 4096, null]))]
        sector_size: Spanned<u32>,
        /// Encrypts the state partition (/var): where its key is. Not encrypted when left out.
        encrypt: Spanned<Encryption>,
    }
}

document! {
    /// A rule: which disks, and what for.
    DataDiskSection, "a data disk's rule",
    required {
        /// Name of the rule, unique in the node. The disk is called by it; with a `count`, `name-1`, `name-2`, and so on.
        #[schemars(extend("pattern" = "^[a-z0-9]([a-z0-9-]{0,29}[a-z0-9])?$", "examples" = ["storage"]))]
        name: Text,
        /// Which disks fit: every word that is given must.
        matching as "match": MatchSection,
        /// What they are for.
        usage as "use": Spanned<DiskUse>,
    }
    optional {
        /// Disks that fit any of these are left out.
        exclude: Vec<MatchSection>,
        /// How many disks there are. 1 when left out. More than that is refused, not guessed.
        #[schemars(range(min = 1, max = 64))]
        count: Spanned<u32>,
        /// File system of `longhorn` and `mount`. `ext4` when left out.
        filesystem: Spanned<FileSystem>,
        /// Where the disk is mounted; several disks each at `<mount_point>/<name>-1` and so on. `longhorn` has
        /// `/mnt/longhorn/<name>` when left out.
        #[schemars(extend("pattern" = "^/", "examples" = ["/srv/data"]))]
        mount_point: Text,
        /// Options to mount with, beside those that Kiln sets.
        #[schemars(extend("examples" = [["noatime"]]))]
        mount_options: Spanned<Vec<Text>>,
        /// Longhorn's tags of the disk.
        tags: Spanned<Vec<Text>>,
        /// Room that Longhorn leaves free on each disk, with its unit. None when left out.
        #[schemars(extend("pattern" = "^[0-9]+(\\.[0-9]+)? ?([KMGT]i?)?B?$", "examples" = ["20GiB"]))]
        reserved: Text,
        /// Encrypts the disk: where its key is. Not encrypted when left out.
        encrypt: Spanned<Encryption>,
    }
}

document! {
    /// What disks are recognised by. Texts are shell patterns: `*`, `?`, `[a-z]`.
    MatchSection, "a match of disks",
    required {}
    optional {
        /// Serial number.
        serial: Text,
        /// World wide name, as udev has it.
        #[schemars(extend("examples" = ["0x5002538e40000000", "eui.*"]))]
        wwn: Text,
        /// Any of the names below /dev/disk/by-id.
        #[schemars(extend("examples" = ["ata-Samsung_SSD_870_*"]))]
        by_id: Text,
        /// Model.
        #[schemars(extend("examples" = ["Samsung SSD 870*"]))]
        model: Text,
        /// Vendor.
        vendor: Text,
        /// The way to the disk.
        transport: Spanned<Transport>,
        /// It spins (`true`), or does not. A disk that does not tell fits neither.
        rotational: Spanned<bool>,
        /// Least size with its unit, exact to the byte: `400GB` is 400 000 000 000 bytes.
        #[schemars(extend("pattern" = "^[0-9]+(\\.[0-9]+)? ?([KMGT]i?)?B?$", "examples" = ["400GB"]))]
        min_size: Text,
        /// Greatest size with its unit.
        #[schemars(extend("pattern" = "^[0-9]+(\\.[0-9]+)? ?([KMGT]i?)?B?$", "examples" = ["600GB"]))]
        max_size: Text,
        /// Name below /dev/disk/by-path: which socket the disk is in.
        #[schemars(extend("examples" = ["pci-0000:00:1f.2-ata-1"]))]
        path: Text,
    }
}

shared_words! {
    /// What a data disk is for.
    DiskUse, policy::Use, "a use of a data disk" {
        /// A file system that Longhorn keeps replicas on.
        Longhorn = "longhorn",
        /// Nothing is ever written to it: it is somebody else's, such as Ceph's.
        Raw = "raw",
        /// A file system at a place of your choice.
        Mount = "mount",
        /// A physical volume of an LVM volume group that has the rule's name.
        Lvm = "lvm",
    }
}

shared_words! {
    /// File system of a data disk.
    FileSystem, policy::FileSystem, "a file system for data disks" {
        /// ext4.
        Ext4 = "ext4",
        /// XFS.
        Xfs = "xfs",
    }
}

shared_words! {
    /// Where the key of an encrypted partition is.
    Encryption, policy::Key, "a place for a key" {
        /// In the TPM where the machine has one, in the seed otherwise.
        Auto = "auto",
        /// In the machine's TPM 2.0; without one the disk is refused.
        Tpm2 = "tpm2",
        /// In the seed.
        Seed = "seed",
    }
}

shared_words! {
    /// The way to a disk.
    Transport, machine::Transport, "a transport" {
        /// NVM Express.
        Nvme = "nvme",
        /// ATA, serial or parallel.
        Sata = "sata",
        /// Serial attached SCSI.
        Sas = "sas",
        /// Any other SCSI: parallel, virtual, RAID controllers.
        Scsi = "scsi",
        /// USB.
        Usb = "usb",
        /// SD, MMC and eMMC.
        Mmc = "mmc",
        /// virtio-blk.
        Virtio = "virtio",
        /// iSCSI.
        Iscsi = "iscsi",
        /// Fibre Channel.
        Fc = "fc",
        /// Something else.
        Other = "other",
    }
}

#[cfg(test)]
mod tests {
    use super::{DiskUse, Encryption, FileSystem, Transport};
    use kiln_contract::{machine, policy};

    fn written<T: serde::Serialize>(word: T) -> String {
        serde_json::to_value(word).unwrap().as_str().unwrap().to_owned()
    }

    /// The device reads the very words that the cluster file has.
    #[test]
    fn words_are_the_contracts() {
        for word in DiskUse::ALL {
            assert_eq!(written(policy::Use::from(*word)), word.as_str());
        }
        for word in FileSystem::ALL {
            assert_eq!(written(policy::FileSystem::from(*word)), word.as_str());
        }
        for word in Encryption::ALL {
            assert_eq!(written(policy::Key::from(*word)), word.as_str());
        }
        for word in Transport::ALL {
            assert_eq!(written(machine::Transport::from(*word)), word.as_str());
        }
        assert_eq!(DiskUse::ALL.len(), policy::Use::ALL.len());
        assert_eq!(Transport::ALL.len(), machine::Transport::ALL.len());
    }
}
