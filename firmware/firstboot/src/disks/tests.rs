//! Recorded trees: sysfs directories as the kernel lays them out, beside disks that are files.

use super::{Disk, Partition, human, scan, table};
use kiln_contract::handoff::{Cluster, Handoff, Node, Partitions, VERSION};
use kiln_contract::memory::Memory;
use kiln_contract::partition as types;
use kiln_contract::policy::Policy;
use kiln_formats::gpt::{self, Wanted};
use std::fs;
use std::path::Path;
use uuid::Uuid;

const KINDS: [(Uuid, &str); 3] =
    [(types::TYPE_ESP, "ESP"), (types::TYPE_CIDATA, "CIDATA"), (types::TYPE_ROOT, "root-a")];

/// A GUID that says whose it is.
fn guid(disk: u128, partition: usize) -> Uuid {
    Uuid::from_u128((disk << 64) + partition as u128)
}

/// A disk of Kiln's shape whose GUIDs derive from `seed`.
pub(crate) fn kiln_disk(name: &str, seed: u128) -> Disk {
    let partition = |(at, (kind, label)): (usize, &(Uuid, &str))| Partition {
        name: format!("{name}{}", at + 1),
        number: u32::try_from(at + 1).unwrap(),
        size: 1 << 29,
        kind: *kind,
        guid: guid(seed, at + 1),
        label: (*label).to_owned(),
    };
    let partitions = KINDS.iter().enumerate().map(partition).collect();
    Disk { partitions, problem: None, ..plain_disk(name) }
}

/// A disk with nothing on it.
pub(crate) fn plain_disk(name: &str) -> Disk {
    Disk {
        name: name.to_owned(),
        size: 10 << 30,
        sector: 512,
        model: "QEMU HARDDISK".to_owned(),
        serial: String::new(),
        partitions: Vec::new(),
        problem: Some("no GUID partition table".to_owned()),
    }
}

/// The document that belongs to [`kiln_disk`] with the same seed.
pub(crate) fn handoff(seed: u128) -> Handoff {
    Handoff {
        version: VERSION,
        credentials: None,
        cluster: Cluster { id: guid(seed, 0), name: "test".to_owned() },
        node: Node { name: "k3s1".to_owned(), machine_id: "0123456789abcdef0123456789abcdef".to_owned() },
        partitions: Partitions {
            esp: guid(seed, 1),
            cidata: guid(seed, 2),
            root_a: guid(seed, 3),
            root_b: guid(seed, 4),
            state: guid(seed, 5),
            state_filesystem: guid(seed, 6),
        },
        disks: Policy::default(),
        memory: Memory::default(),
        iscsi: None,
    }
}

fn write(path: &Path, text: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A disk of one MiB a partition with both copies of a table: (type, guid, label).
pub(crate) fn disk(sector: u32, partitions: &[(Uuid, Uuid, &str)]) -> Vec<u8> {
    let wanted: Vec<Wanted> = (partitions.iter().zip(1..))
        .map(|((type_guid, guid, name), number)| Wanted {
            number,
            type_guid: *type_guid,
            guid: *guid,
            name: (*name).to_owned(),
            size: 1,
            attributes: 0,
        })
        .collect();
    let table = gpt::Table::plan(Uuid::from_u128(99), sector, &wanted).unwrap();
    let mut bytes = Vec::new();
    gpt::write(&table, &mut bytes).unwrap();
    bytes
}

/// Records a disk: its sysfs directory with three partitions, and its bytes.
fn record(root: &Path, name: &str, (sector, partition_prefix): (u32, &str)) {
    let partitions: Vec<_> =
        KINDS.iter().zip(1..).map(|((kind, label), at)| (*kind, guid(7, at), *label)).collect();
    let bytes = disk(sector, &partitions);
    let directory = root.join("sys/class/block").join(name);
    write(&directory.join("size"), format!("{}\n", bytes.len() / 512));
    write(&directory.join("queue/logical_block_size"), format!("{sector}\n"));
    write(&directory.join("device/model"), "Disk of   \n");
    for number in 1..=3 {
        let partition = directory.join(format!("{partition_prefix}{number}"));
        write(&partition.join("partition"), format!("{number}\n"));
        write(&partition.join("size"), "8\n");
        // The kernel lists partitions beside disks, too.
        let listed = root.join("sys/class/block").join(format!("{partition_prefix}{number}"));
        write(&listed.join("partition"), format!("{number}\n"));
        write(&listed.join("size"), "8\n");
    }
    write(&root.join("dev").join(name), bytes);
}

fn scanned(root: &Path) -> Vec<Disk> {
    scan(&root.join("sys"), &root.join("dev"))
}

#[test]
fn disks_of_every_bus_and_sector_size_are_read() {
    let root = tempfile::tempdir().unwrap();
    let kinds = [
        ("nvme0n1", 4096, "nvme0n1p"),
        ("sda", 512, "sda"),
        ("mmcblk0", 512, "mmcblk0p"),
        ("vda", 512, "vda"),
    ];
    for (name, sector, prefix) in kinds {
        record(root.path(), name, (sector, prefix));
    }
    let disks = scanned(root.path());
    assert_eq!(
        disks.iter().map(|disk| disk.name.as_str()).collect::<Vec<_>>(),
        ["mmcblk0", "nvme0n1", "sda", "vda"]
    );
    for disk in &disks {
        assert!(disk.is_kiln(), "{disk:?}");
        assert_eq!(disk.model, "Disk of");
        assert_eq!(disk.partitions[0].size, 4096);
    }
    assert_eq!(disks[1].partitions[2].name, "nvme0n1p3");
}

#[test]
fn what_is_no_disk_is_left_out() {
    let root = tempfile::tempdir().unwrap();
    for name in ["loop0", "ram3", "dm-0", "md127", "sr0", "zram0"] {
        record(root.path(), name, (512, &format!("{name}p")));
    }
    record(root.path(), "sdb", (512, "sdb"));
    write(&root.path().join("sys/class/block/sdb/size"), "0\n");
    record(root.path(), "nvme0c0n1", (512, "nvme0c0n1p"));
    write(&root.path().join("sys/class/block/nvme0c0n1/hidden"), "1\n");
    assert_eq!(scanned(root.path()), []);
}

/// A table entry without a device (the kernel skips what lies past the disk's end) can't be mounted.
#[test]
fn partitions_without_a_device_are_left_out() {
    let root = tempfile::tempdir().unwrap();
    record(root.path(), "sda", (512, "sda"));
    fs::remove_dir_all(root.path().join("sys/class/block/sda/sda3")).unwrap();
    let disks = scanned(root.path());
    assert_eq!(disks[0].partitions.len(), 2);
    assert!(!disks[0].is_kiln());
}

#[test]
fn an_unreadable_disk_is_told_in_the_table() {
    let root = tempfile::tempdir().unwrap();
    record(root.path(), "sda", (512, "sda"));
    record(root.path(), "sdb", (512, "sdb"));
    fs::write(root.path().join("dev/sda"), b"short").unwrap();
    let text = table(&scanned(root.path()));
    assert!(text.contains("  sda (5.0 MiB, Disk of): can't be read"), "{text}");
    assert!(
        text.contains("    sdb3          4.0 KiB root   root-a    00000000-0000-0007-0000-000000000003"),
        "{text}"
    );
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
}

#[test]
fn sizes_read_well() {
    let table = [
        (0, "0 B"),
        (1023, "1023 B"),
        (4096, "4.0 KiB"),
        (1 << 30, "1.0 GiB"),
        (500_107_862_016, "465.7 GiB"),
    ];
    for (bytes, want) in table {
        assert_eq!(human(bytes), want);
    }
}
