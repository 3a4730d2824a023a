//! Disks that belong to somebody else: file systems, members of volumes and partition tables, made by the tools that
//! make them in the field. Where no tool works on this host, the bytes are written as published.

use crate::disks::{data, folder, signature};
use kiln_qemu::Bus;
use kiln_tests::{root_or_skip, succeed, tool};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Whose a disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Foreign {
    Ext4,
    Xfs,
    Btrfs,
    Ntfs,
    Vfat,
    Swap,
    Luks,
    /// An LVM physical volume. pvcreate takes block devices only: needs root, for a loop device.
    Lvm,
    Raid1,
    Zfs,
    Ceph,
    /// A GPT without a partition.
    Gpt,
    /// An MBR with one partition.
    Mbr,
}

impl Foreign {
    pub(crate) const ALL: [Self; 13] = [
        Self::Ext4,
        Self::Xfs,
        Self::Btrfs,
        Self::Ntfs,
        Self::Vfat,
        Self::Swap,
        Self::Luks,
        Self::Lvm,
        Self::Raid1,
        Self::Zfs,
        Self::Ceph,
        Self::Gpt,
        Self::Mbr,
    ];

    /// What blkid says of it.
    pub(crate) fn claim(self) -> (&'static str, &'static str) {
        match self {
            Self::Ext4 => ("TYPE", "ext4"),
            Self::Xfs => ("TYPE", "xfs"),
            Self::Btrfs => ("TYPE", "btrfs"),
            Self::Ntfs => ("TYPE", "ntfs"),
            Self::Vfat => ("TYPE", "vfat"),
            Self::Swap => ("TYPE", "swap"),
            Self::Luks => ("TYPE", "crypto_LUKS"),
            Self::Lvm => ("TYPE", "LVM2_member"),
            Self::Raid1 => ("TYPE", "linux_raid_member"),
            Self::Zfs => ("TYPE", "zfs_member"),
            Self::Ceph => ("TYPE", "ceph_bluestore"),
            Self::Gpt => ("PTTYPE", "gpt"),
            Self::Mbr => ("PTTYPE", "dos"),
        }
    }

    /// Makes an empty disk of at least 300 MiB theirs. False when that needs root and this test has no root.
    pub(crate) fn make(self, path: &Path) -> bool {
        let run = |name: &str, package: &str, arguments: &[&str]| {
            succeed(tool(name, package).args(arguments).arg(path));
        };
        match self {
            Self::Ext4 => run("mkfs.ext4", "e2fsprogs", &["-q", "-F"]),
            Self::Xfs => run("mkfs.xfs", "xfsprogs", &["-q"]),
            Self::Btrfs => run("mkfs.btrfs", "btrfs-progs", &["-q"]),
            Self::Ntfs => run("mkfs.ntfs", "ntfs-3g", &["-F", "-Q", "-q"]),
            Self::Vfat => run("mkfs.fat", "dosfstools", &["-F", "32"]),
            Self::Swap => run("mkswap", "util-linux", &["-q"]),
            Self::Luks => {
                // The cheapest derivation of a key that it takes: nobody will guess this one.
                let cheap = ["luksFormat", "-q", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];
                let mut format = tool("cryptsetup", "cryptsetup-bin");
                feed(format.args(cheap).args(["--key-file", "-"]).arg(path), "nobody's");
            }
            Self::Lvm => return root_or_skip("a physical volume of LVM") && physical_volume(path),
            Self::Raid1 => raid1(path),
            Self::Zfs => zfs(path),
            Self::Ceph => ceph(path),
            Self::Gpt => run("sgdisk", "gdisk", &["-o"]),
            Self::Mbr => feed(tool("sfdisk", "fdisk").arg("-q").arg(path), "label: dos\n2048,+,83\n"),
        }
        true
    }
}

/// Runs a command with something on its standard input.
fn feed(command: &mut Command, text: &str) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let status = child.wait().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

fn physical_volume(path: &Path) -> bool {
    on_loop(path, |device| lvm("pvcreate", device, &[device]));
    true
}

/// Runs something on a file that is a block device meanwhile.
fn on_loop(path: &Path, work: impl FnOnce(&str)) {
    let said = succeed(tool("losetup", "mount").args(["--find", "--show"]).arg(path));
    let device = said.trim();
    let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(device)));
    succeed(tool("losetup", "mount").args(["--detach", device]));
    if let Err(panic) = worked {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a command of LVM. No other device of this host is looked at, and udev is not waited for.
fn lvm(command: &str, device: &str, arguments: &[&str]) {
    let config = format!(
        "devices {{ filter = [ \"a|^{device}$|\", \"r|.*|\" ] }} activation {{ udev_sync = 0 udev_rules = 0 }}"
    );
    succeed(tool(command, "lvm2").args(["-q", "--config", &config]).args(arguments));
}

/// Puts a volume group on a disk, with one volume of 64 MiB in it. The volume is written into the group's description, as
/// lvcreate wants the kernel's device mapper. False when that needs root and this test has no root.
pub(crate) fn group_with_volume(path: &Path, group: &str, volume: &str) -> bool {
    if !root_or_skip("a volume group of LVM") {
        return false;
    }
    on_loop(path, |device| {
        lvm("vgcreate", device, &[group, device]);
        let description = path.with_extension("lvm");
        let file = description.display().to_string();
        lvm("vgcfgbackup", device, &["-f", &file, group]);
        let text = std::fs::read_to_string(&description).unwrap();
        let end = text.trim_end().len() - 1;
        let volumes = format!(
            "logical_volumes {{\n{volume} {{\nid = \"kilnkk-iiii-llll-nnnn-0000-1111-222222\"\n\
             status = [\"READ\", \"WRITE\", \"VISIBLE\"]\nflags = []\nsegment_count = 1\nsegment1 {{\nstart_extent = 0\n\
             extent_count = 16\ntype = \"striped\"\nstripe_count = 1\nstripes = [\"pv0\", 0]\n}}\n}}\n}}\n"
        );
        std::fs::write(&description, format!("{}{volumes}{}", &text[..end], &text[end..])).unwrap();
        lvm("vgcfgrestore", device, &["-f", &file, group]);
    });
    true
}

/// Bytes put one after the other.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn pad(mut self, length: usize) -> Self {
        assert!(self.0.len() <= length);
        self.0.resize(length, 0);
        self
    }
}

fn open(path: &Path) -> (File, u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    let size = file.metadata().unwrap().len();
    (file, size)
}

/// One of two members of a RAID 1 with a superblock of version 1.2, which stands 4096 bytes into the disk (Linux,
/// include/uapi/linux/raid/md_p.h, `mdp_superblock_1`). mdadm makes arrays only where the kernel runs them.
fn raid1(path: &Path) {
    let (file, size) = open(path);
    let (sectors, data_offset) = (size / 512, 2048_u64);
    let used = sectors - data_offset;
    let mut bytes = Bytes::default()
        .raw(&0xa92b_4efc_u32.to_le_bytes()) // magic
        .raw(&1_u32.to_le_bytes()) // major_version
        .raw(&[0; 8]) // feature_map, pad0
        .raw(b"kiln-foreign-uid") // set_uuid
        .raw(b"foreign:0") // set_name, 32 bytes
        .pad(64)
        .raw(&1_700_000_000_u64.to_le_bytes()) // ctime
        .raw(&1_u32.to_le_bytes()) // level
        .raw(&0_u32.to_le_bytes()) // layout
        .raw(&used.to_le_bytes()) // size
        .raw(&0_u32.to_le_bytes()) // chunksize
        .raw(&2_u32.to_le_bytes()) // raid_disks
        .pad(128)
        .raw(&data_offset.to_le_bytes())
        .raw(&used.to_le_bytes()) // data_size
        .raw(&8_u64.to_le_bytes()) // super_offset, in sectors
        .raw(&[0; 8]) // recovery_offset
        .raw(&0_u32.to_le_bytes()) // dev_number
        .raw(&0_u32.to_le_bytes()) // cnt_corrected_read
        .raw(b"kiln-foreign-dev") // device_uuid
        .pad(192)
        .raw(&1_700_000_000_u64.to_le_bytes()) // utime
        .raw(&1_u64.to_le_bytes()) // events
        .raw(&u64::MAX.to_le_bytes()) // resync_offset: all is in sync
        .raw(&0_u32.to_le_bytes()) // sb_csum, below
        .raw(&2_u32.to_le_bytes()) // max_dev
        .pad(256)
        .raw(&[0, 0, 1, 0]) // dev_roles: two active members
        .0;
    // calc_sb_1_csum of drivers/md/md.c: the sum of all words, its upper half added to the lower.
    let sum: u64 = bytes.chunks(4).map(|word| u64::from(u32::from_le_bytes(word.try_into().unwrap()))).sum();
    let sum = u32::try_from((sum & 0xffff_ffff) + (sum >> 32)).unwrap();
    bytes[216..220].copy_from_slice(&sum.to_le_bytes());
    file.write_all_at(&bytes, 4096).unwrap();
}

/// The four labels of a pool's only disk ("ZFS On-Disk Specification", chapters 1.2 and 1.3): two at the beginning, two
/// at the end, each of 256 KiB; name-value pairs at 16 KiB, the ring of uberblocks at 128 KiB. Checksums are left out.
fn zfs(path: &Path) {
    const LABEL: u64 = 256 << 10;
    let (file, size) = open(path);
    let size = size / LABEL * LABEL;
    let mut label = vec![0; usize::try_from(LABEL).unwrap()];
    // XDR, little-endian host; version 0, unique names.
    let mut pairs = Bytes::default().raw(&[1, 1, 0, 0]).raw(&0_u32.to_be_bytes()).raw(&1_u32.to_be_bytes());
    let numbers = [
        ("version", 5000_u64),
        ("state", 0),
        ("txg", 4),
        ("pool_guid", 0x6b69_6c6e_0001),
        ("guid", 0x6b69_6c6e_0002),
    ];
    for (name, number) in numbers {
        pairs = pairs.raw(&pair(name, 8, &number.to_be_bytes()));
    }
    let text = Bytes::default().raw(&7_u32.to_be_bytes()).raw(b"foreign").pad(12).0;
    let pairs = pairs.raw(&pair("name", 9, &text)).raw(&[0; 8]).0;
    label[16 << 10..][..pairs.len()].copy_from_slice(&pairs);
    for transaction in 1..=8_u64 {
        let block = Bytes::default()
            .raw(&0x00ba_b10c_u64.to_le_bytes()) // ub_magic
            .raw(&5000_u64.to_le_bytes()) // ub_version
            .raw(&transaction.to_le_bytes()) // ub_txg
            .raw(&0x6b69_6c6e_0003_u64.to_le_bytes()) // ub_guid_sum
            .raw(&1_700_000_000_u64.to_le_bytes()) // ub_timestamp
            .0;
        let at = (128 << 10) + usize::try_from(transaction).unwrap() * 1024;
        label[at..][..block.len()].copy_from_slice(&block);
    }
    for at in [0, LABEL, size - 2 * LABEL, size - LABEL] {
        file.write_all_at(&label, at).unwrap();
    }
}

/// A name-value pair in XDR; `kind` 8 is a number of 64 bits, 9 a string (illumos, sys/nvpair.h).
fn pair(name: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    let length = u32::try_from(name.len()).unwrap();
    let padded = name.len().next_multiple_of(4);
    let rest = Bytes::default()
        .raw(&length.to_be_bytes())
        .raw(name.as_bytes())
        .pad(4 + padded)
        .raw(&kind.to_be_bytes())
        .raw(&1_u32.to_be_bytes())
        .raw(value)
        .0;
    let encoded = u32::try_from(rest.len() + 8).unwrap();
    // The second size is that in memory, which no reader needs to be right.
    Bytes::default().raw(&encoded.to_be_bytes()).raw(&encoded.to_be_bytes()).raw(&rest).0
}

/// The label of a BlueStore device (Ceph, src/os/bluestore/bluestore_types.cc, `bluestore_bdev_label_t`): words for
/// people, the OSD's id, the encoded label; its checksum is left out.
fn ceph(path: &Path) {
    let (file, size) = open(path);
    let id = "6b696c6e-0000-4000-8000-000000000001";
    let encoded = Bytes::default()
        .raw(&[0x6b, 0x69, 0x6c, 0x6e, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, 1]) // osd_uuid
        .raw(&size.to_le_bytes())
        .raw(&[0; 8]) // btime
        .raw(&4_u32.to_le_bytes())
        .raw(b"main") // description
        .raw(&0_u32.to_le_bytes()) // meta
        .0;
    let label = Bytes::default()
        .raw(format!("bluestore block device\n{id}\n").as_bytes())
        .raw(&[2, 1]) // version of the encoding, and the oldest that reads it
        .raw(&u32::try_from(encoded.len()).unwrap().to_le_bytes())
        .raw(&encoded)
        .pad(4096)
        .0;
    file.write_all_at(&label, 0).unwrap();
}

#[test]
fn every_foreign_disk_is_recognised() {
    for foreign in Foreign::ALL {
        let folder = folder();
        let (path, _) = data(folder.path(), "foreign.img", 400 << 20, Bus::Virtio);
        assert!(signature(&path, None).is_empty());
        if foreign.make(&path) {
            let (key, value) = foreign.claim();
            let found = signature(&path, None);
            assert_eq!(found.get(key).map(String::as_str), Some(value), "{foreign:?}: {found:?}");
            assert_eq!(path.metadata().unwrap().len(), 400 << 20, "{foreign:?}");
        }
    }
}

/// mdadm's own reader agrees with what is written here in its place.
#[test]
fn mdadm_reads_the_written_superblock() {
    let folder = folder();
    let (path, _) = data(folder.path(), "raid.img", 400 << 20, Bus::Virtio);
    assert!(Foreign::Raid1.make(&path));
    let facts = succeed(tool("mdadm", "mdadm").arg("--examine").arg(&path));
    for words in ["Raid Level : raid1", "Raid Devices : 2", "- correct", "Array State : AA"] {
        assert!(facts.contains(words), "{words:?} is not in\n{facts}");
    }
}
