//! Disks that are not blank although their beginning, their end or their name is gone, made by the true tools: none of them is
//! taken without the user's word. Files stand in for disks.

use super::super::{content, table};
use super::rules::{handoff, matching, rule};
use kiln_contract::choose::choose;
use kiln_contract::machine::{self, Content, Disk, Machine, Transport};
use kiln_contract::partition::{TYPE_DATA, TYPE_ESP, TYPE_UNFINISHED};
use kiln_contract::plan::{Action, Obstacle, Plan};
use kiln_formats::gpt::{self, Partition, Table};
use kiln_formats::io::WriteAt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use uuid::Uuid;

/// A superblock of btrfs at 64 MiB, two groups of a large ext4, four of XFS.
const SIZE: u64 = 400 << 20;
const MIB: u64 = 1 << 20;

fn open(path: &Path) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

fn put(path: &Path, at: u64, bytes: &[u8]) {
    open(path).write_all_at(bytes, at).unwrap();
}

fn zero(path: &Path, from: u64, to: u64) {
    put(path, from, &vec![0; usize::try_from(to - from).unwrap()]);
}

fn noise(length: u64) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 33).to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

/// Runs a tool on the disk. A tool that this machine has not makes the case fail: `tests/run` installs them all.
fn tool(path: &Path, words: &str) {
    let mut words = words.split(' ');
    let name = words.next().unwrap();
    let mut command = Command::new(name);
    let paths = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    command.args(words).arg(path).env("PATH", paths).stdin(Stdio::null()).stdout(Stdio::null());
    let output = command.output().unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A table with one partition, with sectors of that size, in a disk of [`SIZE`].
fn divide(path: &Path, (sector_size, kind): (u32, Uuid)) {
    let partition = Partition {
        number: 1,
        type_guid: kind,
        guid: Uuid::from_u128(1),
        name: "somebody's".to_owned(),
        first_lba: MIB / u64::from(sector_size),
        last_lba: 64 * MIB / u64::from(sector_size) - 1,
        attributes: 0,
    };
    let disk_guid = Uuid::from_u128(2);
    let table = Table { disk_guid, sector_size, disk_size: SIZE, partitions: vec![partition] };
    /// The file.
    #[derive(Debug)]
    struct Out(File);
    impl WriteAt for Out {
        fn write_all_at(&mut self, buf: &[u8], offset: u64) -> io::Result<()> {
            self.0.write_all_at(buf, offset)
        }
    }
    gpt::write(&table, &mut Out(open(path))).unwrap();
}

/// The plan of a machine with this disk, which one rule fits.
fn plan(path: &Path, sector_size: u32, erase: &[&str]) -> Plan {
    let found = table(path, sector_size, SIZE);
    let numbers: Vec<u32> = found.iter().flat_map(|table| &table.partitions).map(|one| one.number).collect();
    let disk = Disk {
        name: "sdb".to_owned(),
        size: SIZE,
        sector_size,
        booted: false,
        read_only: false,
        removable: false,
        rotational: None,
        transport: Transport::Sata,
        model: String::new(),
        vendor: String::new(),
        serial: "SERIAL".to_owned(),
        wwn: String::new(),
        by_id: vec![],
        path: String::new(),
        other_paths: vec![],
        content: content::of(path, SIZE, &numbers),
        table: found,
    };
    let machine = Machine { version: machine::VERSION, product: String::new(), disks: vec![disk] };
    choose(&machine, &handoff(&[rule(matching(|_| ()), 1)], erase))
}

/// What is done to an empty disk, the size of its sectors afterwards, and what is said to be on it.
type Case = (&'static str, fn(&Path), u32, &'static str);

const CASES: &[Case] = &[
    ("random from end to end", |disk| put(disk, 0, &noise(SIZE)), 512, "unsigned from 0 B on"),
    ("random in the middle", |disk| put(disk, 200 * MIB, &noise(8 * MIB)), 512, "unsigned"),
    ("VeraCrypt's second header", |disk| put(disk, SIZE - (128 << 10), &noise(64 << 10)), 512, "unsigned"),
    ("one sector of data at 3 MiB", |disk| put(disk, 3 * MIB, &noise(512)), 512, "unsigned from 3.0 MiB on"),
    ("a table for small sectors", |disk| divide(disk, (512, TYPE_ESP)), 4096, "gpt for sectors of 512 bytes"),
    (
        "a table for large sectors",
        |disk| divide(disk, (4096, TYPE_ESP)),
        512,
        "gpt for sectors of 4096 bytes",
    ),
    (
        "its backup for small sectors",
        |disk| {
            divide(disk, (512, TYPE_ESP));
            zero(disk, 0, MIB);
        },
        4096,
        "gpt for sectors of 512 bytes",
    ),
    (
        "its backup for large sectors",
        |disk| {
            divide(disk, (4096, TYPE_ESP));
            zero(disk, 0, MIB);
        },
        512,
        "gpt for sectors of 4096 bytes",
    ),
    (
        "sgdisk's backup",
        |disk| {
            tool(disk, "sgdisk -n 1:2048:40960");
            zero(disk, 0, 5 * MIB);
        },
        512,
        "gpt",
    ),
    (
        "a backup table whose header is gone",
        |disk| {
            tool(disk, "sgdisk -n 1:2048:40960");
            zero(disk, 0, MIB);
            zero(disk, SIZE - 512, SIZE);
        },
        512,
        "unsigned",
    ),
    (
        "LUKS2's second header",
        |disk| {
            let key = disk.with_extension("key");
            std::fs::write(&key, "nobody's").unwrap();
            let cheap = "cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file";
            tool(disk, &format!("{cheap} {}", key.display()));
            zero(disk, 0, 16 << 10);
        },
        512,
        "crypto_LUKS",
    ),
    (
        "a key slot of LUKS2 without either header",
        |disk| {
            let key = disk.with_extension("key");
            std::fs::write(&key, "nobody's").unwrap();
            let cheap = "cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file";
            tool(disk, &format!("{cheap} {}", key.display()));
            zero(disk, 0, 32 << 10);
        },
        512,
        "unsigned",
    ),
    (
        "ext4 behind five zeroed MiB",
        |disk| {
            tool(disk, "mke2fs -q -F -t ext4 -E lazy_itable_init=1");
            zero(disk, 0, 5 * MIB);
        },
        512,
        "unsigned",
    ),
    (
        "XFS behind five zeroed MiB",
        |disk| {
            tool(disk, "mkfs.xfs -q");
            zero(disk, 0, 5 * MIB);
        },
        512,
        "unsigned",
    ),
    (
        "btrfs behind five zeroed MiB",
        |disk| {
            tool(disk, "mkfs.btrfs -q");
            zero(disk, 0, 5 * MIB);
        },
        512,
        "unsigned",
    ),
    (
        "NTFS' last sector",
        |disk| {
            tool(disk, "mkfs.ntfs -F -Q -q");
            zero(disk, 0, SIZE - 512);
        },
        512,
        "unsigned",
    ),
    (
        // The magic number of mdp_superblock_s (Linux, include/uapi/linux/raid/md_p.h) 64 KiB before the end, version 0.90.
        "an array's member, version 0.90",
        |disk| {
            let mut words = [0_u32; 16];
            (words[0], words[2]) = (0xa92b_4efc, 90);
            (words[5], words[7], words[13]) = (7, 1, 8);
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            put(disk, (SIZE & !0xffff) - 0x1_0000, &bytes);
        },
        512,
        "linux_raid_member",
    ),
    (
        // mdp_superblock_1 8 KiB before the end: version 1.0. Its checksum is wrong, as that of a half-wiped one may be.
        "an array's member, version 1.0",
        |disk| put(disk, SIZE - 8192, &[0xfc, 0x4e, 0x2b, 0xa9, 1, 0, 0, 0]),
        512,
        "unsigned",
    ),
    (
        // imsm: the signature of mpb_signature in the last sector but one (mdadm, super-intel.c).
        "a member of a RAID of Intel's firmware",
        |disk| put(disk, SIZE - 1024, b"Intel Raid ISM Cfg Sig. 1.3.00"),
        512,
        "isw_raid_member",
    ),
    (
        // The anchor of SNIA's DDF, big-endian, in the last sector; some blkid take its magic for the whole.
        "an anchor of DDF",
        |disk| put(disk, SIZE - 512, &[0xde, 0x11, 0xde, 0x11]),
        512,
        "",
    ),
    (
        // The magic of a label's uberblocks (ZFS On-Disk Specification, chapter 1.3), in the last label alone.
        "the last label of ZFS",
        |disk| {
            for number in 0..128 {
                let at = SIZE - (128 << 10) + number * 1024;
                put(disk, at, &0x00ba_b10c_u64.to_le_bytes());
            }
        },
        512,
        "",
    ),
];

#[test]
fn no_half_wiped_disk_is_blank() {
    let folder = tempfile::tempdir().unwrap();
    for (number, (name, make, sector_size, found)) in CASES.iter().enumerate() {
        let path = folder.path().join(number.to_string());
        File::create(&path).unwrap().set_len(SIZE).unwrap();
        make(&path);
        assert_eq!(path.metadata().unwrap().len(), SIZE, "{name}");
        let refused = plan(&path, *sector_size, &[]);
        let [Action::Ignore(Obstacle::Signatures(seen))] =
            &refused.disks.iter().map(|decision| &decision.action).cloned().collect::<Vec<_>>()[..]
        else {
            panic!("{name}: {refused:?}")
        };
        let words = format!("{} {}", seen[0].kind, seen[0].label);
        assert!(words.starts_with(found) && refused.is_refused(), "{name}: {words}");
        let erased = plan(&path, *sector_size, &["SERIAL"]);
        assert!(
            matches!(&erased.disks[0].action, Action::Erase(_, lost) if lost == seen),
            "{name}: {erased:?}"
        );
        std::fs::remove_file(&path).unwrap();
    }
}

/// Flash that was trimmed gives ones or zeros; and what a cut left of our own first write is nobody's data.
#[test]
fn what_is_empty_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    type Wipe = fn(&Path);
    let empty: [(&str, Wipe); 4] = [
        ("zeros", |_| ()),
        ("ones", |disk| put(disk, 0, &vec![0xff; usize::try_from(SIZE).unwrap()])),
        ("ones behind zeros", |disk| put(disk, 100 * MIB, &vec![0xff; 250 << 20])),
        ("a cut table of ours", |disk| {
            divide(disk, (512, TYPE_UNFINISHED));
            zero(disk, 0, MIB);
            zero(disk, SIZE - 512, SIZE);
        }),
    ];
    for (name, make) in empty {
        let path = folder.path().join(name);
        File::create(&path).unwrap().set_len(SIZE).unwrap();
        make(&path);
        let plan = plan(&path, 512, &[]);
        assert!(matches!(plan.disks[0].action, Action::Provision(_)), "{name}: {plan:?}");
        std::fs::remove_file(&path).unwrap();
    }
    // A finished one that lost its header is somebody's disk.
    let path = folder.path().join("finished");
    File::create(&path).unwrap().set_len(SIZE).unwrap();
    divide(&path, (512, TYPE_DATA));
    zero(&path, 0, MIB);
    zero(&path, SIZE - 512, SIZE);
    assert!(matches!(content::of(&path, SIZE, &[]), Content::Signatures(_)));
}
