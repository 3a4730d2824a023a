//! What is written where, without a disk.

use super::{WIPED, is_same, table, wiped};
use kiln_contract::machine::{self, Content, Disk, Transport};
use kiln_contract::partition as types;
use kiln_contract::policy::{FileSystem, Match, Rule, Slot, Use};
use kiln_formats::gpt;
use uuid::Uuid;

/// A rule for `count` Longhorn disks.
pub(crate) fn rule(name: &str, count: u32) -> Rule {
    let slot = |number: u32| Slot {
        name: if count == 1 { name.to_owned() } else { format!("{name}-{number}") },
        partition: Uuid::from_u128(0x100 + u128::from(number)),
        filesystem: Uuid::from_u128(0x200 + u128::from(number)),
        luks: Uuid::from_u128(0x300 + u128::from(number)),
        longhorn: Uuid::from_u128(0x400 + u128::from(number)),
        mount_point: Some(format!("/mnt/longhorn/{name}-{number}")),
    };
    Rule {
        name: name.to_owned(),
        matching: Match::default(),
        exclude: Vec::new(),
        usage: Use::Longhorn,
        slots: (1..=count).map(slot).collect(),
        filesystem: FileSystem::Ext4,
        mount_options: vec!["noatime".to_owned()],
        tags: vec!["ssd".to_owned()],
        reserved: 1 << 30,
        encrypt: None,
        removable: false,
    }
}

fn disk(size: u64, sector_size: u32) -> Disk {
    Disk {
        name: "sdb".to_owned(),
        size,
        sector_size,
        booted: false,
        read_only: false,
        removable: false,
        rotational: None,
        transport: Transport::Sata,
        model: String::new(),
        vendor: String::new(),
        serial: "S1".to_owned(),
        wwn: String::new(),
        by_id: Vec::new(),
        path: String::new(),
        other_paths: Vec::new(),
        content: Content::Blank,
        table: None,
    }
}

/// Every size and both sector sizes give a table that the writer takes and the reader gives back.
#[test]
fn tables_fit_their_disks() {
    let rule = rule("sdf", 1);
    for sector in [512, 4096] {
        for size in [8 << 20, (8 << 20) + 4096, 500_107_862_016, 18_000_207_937_536] {
            let table = table(&disk(size, sector), &rule.slots[0], Uuid::from_u128(1)).unwrap();
            let only = &table.partitions[0];
            assert_eq!(only.offset(sector), 1 << 20);
            assert_eq!(only.size(sector) % (1 << 20), 0);
            assert!(size - only.offset(sector) - only.size(sector) < 3 << 20, "{size}");
            if size < 1 << 30 {
                let mut bytes = Vec::new();
                gpt::write(&table, &mut bytes).unwrap();
                assert_eq!(gpt::read(&bytes, sector).unwrap().table, table);
            }
        }
    }
    assert!(super::table(&disk(2 << 20, 512), &rule.slots[0], Uuid::from_u128(1)).is_none());
}

#[test]
fn both_ends_of_everything_are_emptied_the_disks_own_last() {
    let mut disk = disk(1 << 40, 512);
    let partition = machine::Partition {
        number: 1,
        kind: types::TYPE_SWAP,
        guid: Uuid::from_u128(1),
        label: String::new(),
        start: 1 << 30,
        size: 1 << 20,
    };
    disk.table = Some(machine::Table {
        disk_guid: Uuid::from_u128(2),
        partitions: vec![partition],
        sector_size: None,
    });
    let (start, end) = (1 << 30, (1 << 30) + (1 << 20));
    assert_eq!(wiped(&disk), [(start, end), (start, end), (0, WIPED), ((1 << 40) - WIPED, 1 << 40)]);
}

#[test]
fn another_disk_under_the_same_name_is_seen() {
    let then = disk(1 << 40, 512);
    assert!(is_same(&then, &then.clone()));
    for other in [
        Disk { serial: "S2".to_owned(), ..then.clone() },
        Disk { size: 1 << 39, ..then.clone() },
        Disk { content: Content::Unreadable("it did not answer".to_owned()), ..then.clone() },
        Disk { path: "pci-0000:00:1f.2-ata-2".to_owned(), ..then.clone() },
        Disk {
            table: Some(machine::Table {
                disk_guid: Uuid::from_u128(2),
                partitions: Vec::new(),
                sector_size: None,
            }),
            ..then.clone()
        },
    ] {
        assert!(!is_same(&then, &other), "{other:?}");
    }
}
