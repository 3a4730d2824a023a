//! The partition table, judged by sgdisk, sfdisk and the gpt crate, and the reader under all kinds of damage.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod tools;

use kiln_formats::gpt::{self, Fault, Found, Partition, ReadError, Table, Wanted, WriteError};
use proptest::prelude::{any, prop, proptest};
use std::fs::File;
use std::path::PathBuf;
use tools::{Tool, is_root, say_skipped};
use uuid::Uuid;

const MIB: u64 = 1 << 20;
const ESP: Uuid = Uuid::from_u128(0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b);
const ROOT: Uuid = Uuid::from_u128(0x4f68bce3_e8cd_4db1_96e7_fbcaf984b709);

fn guid(low: u128) -> Uuid {
    Uuid::from_u128(0x0011_2233_4455_5677_8899_aabb_ccdd_0000 + low)
}

fn wanted() -> Vec<Wanted> {
    [(1, ESP, "esp", 33 * MIB, 0), (2, ROOT, "seed ☃", 1, 1), (5, ROOT, "root-a", 50 * MIB + 1, 1 << 60)]
        .map(|(number, type_guid, name, size, attributes)| {
            let name = name.to_owned();
            Wanted { number, type_guid, guid: guid(number.into()), name, size, attributes }
        })
        .to_vec()
}

fn table(sector_size: u32) -> Table {
    Table::plan(guid(0), sector_size, &wanted()).unwrap()
}

fn bytes(table: &Table) -> Vec<u8> {
    let mut bytes = Vec::new();
    gpt::write(table, &mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, table.disk_size);
    bytes
}

fn image(table: &Table) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    let mut file = File::create(&path).unwrap();
    file.set_len(table.disk_size).unwrap();
    gpt::write(table, &mut file).unwrap();
    (dir, path)
}

#[test]
fn a_plan_is_aligned() {
    for sector_size in [512, 4096] {
        let table = table(sector_size);
        let places: Vec<_> = table
            .partitions
            .iter()
            .map(|p| (p.offset(sector_size) / MIB, p.size(sector_size) / MIB))
            .collect();
        assert_eq!(places, [(1, 33), (34, 1), (35, 51)]);
        assert_eq!(table.disk_size, 87 * MIB);
    }
    let mut huge = wanted();
    huge[0].size = u64::MAX;
    assert_eq!(Table::plan(guid(0), 512, &huge), None);
}

/// Frozen: other bytes mean that images made from an old lock are no longer reproduced. Change the number only
/// with a line in the change log.
#[test]
fn bytes_are_frozen() {
    let hashes = [512, 4096].map(|sector_size| crc32fast::hash(&bytes(&table(sector_size))));
    assert_eq!(hashes, [682_417_966, 2_708_345_675]);
}

#[test]
fn it_is_read_back() {
    for sector_size in [512, 4096] {
        let table = table(sector_size);
        let bytes = bytes(&table);
        for found in [gpt::read(&bytes, sector_size).unwrap(), gpt::detect(&bytes).unwrap()] {
            assert_eq!(found.table, table);
            assert!(found.primary.is_none() && found.backup.is_none());
            assert_eq!(found.backup_lba, table.disk_size / u64::from(sector_size) - 1);
        }
    }
}

/// sgdisk finds no problem, and each partition where it was asked for.
fn judge(target: &str, table: &Table) {
    let sgdisk = |args: &[&str]| Tool::new("sgdisk", "gdisk").args(args).args([target]).run();
    let report = sgdisk(&["-v"]);
    assert!(report.contains("No problems found"), "{report}");
    assert!(!report.contains("not aligned") && !report.contains("Caution"), "{report}");
    let print = sgdisk(&["-p"]);
    assert!(print.contains(&format!("Disk identifier (GUID): {:X}", table.disk_guid)), "{print}");
    for partition in &table.partitions {
        let info = sgdisk(&["-i", &partition.number.to_string()]);
        let sectors = partition.last_lba - partition.first_lba + 1;
        for line in [
            format!("Partition GUID code: {:X}", partition.type_guid),
            format!("Partition unique GUID: {:X}", partition.guid),
            format!("First sector: {} ", partition.first_lba),
            format!("Last sector: {} ", partition.last_lba),
            format!("Partition size: {sectors} sectors"),
            format!("Attribute flags: {:016X}", partition.attributes),
            format!("Partition name: '{}'", partition.name),
        ] {
            assert!(info.contains(&line), "{line}\n{info}");
        }
    }
}

#[test]
fn sgdisk_finds_no_problem() {
    let mut table = table(512);
    // sgdisk shows names as the locale can.
    table.partitions[1].name = "seed".to_owned();
    let (_dir, path) = image(&table);
    judge(path.to_str().unwrap(), &table);
}

#[test]
fn sgdisk_finds_no_problem_with_large_sectors() {
    if !is_root() {
        return say_skipped("sgdisk_finds_no_problem_with_large_sectors: a loop device wants root");
    }
    let mut table = table(4096);
    table.partitions[1].name = "seed".to_owned();
    let (_dir, path) = image(&table);
    let Some(device) = tools::Loop::attach(&path, 4096) else {
        return say_skipped("sgdisk_finds_no_problem_with_large_sectors: no loop devices here");
    };
    judge(&device.name, &table);
}

#[test]
fn sfdisk_agrees() {
    let table = table(512);
    let (_dir, path) = image(&table);
    let dump = Tool::new("sfdisk", "fdisk").env("LC_ALL", "C.UTF-8").args(["--dump"]).args([&path]).run();
    assert!(dump.contains("label: gpt") && dump.contains("sector-size: 512"), "{dump}");
    assert!(dump.contains(&format!("label-id: {:X}", table.disk_guid)), "{dump}");
    for partition in &table.partitions {
        let line = dump.lines().find(|line| line.contains(&format!("{:X}", partition.guid))).unwrap();
        let squeezed: String = line.split_whitespace().collect();
        let sectors = partition.last_lba - partition.first_lba + 1;
        assert!(squeezed.contains(&format!("start={},size={sectors},", partition.first_lba)), "{line}");
        assert!(line.contains(&format!("type={:X}", partition.type_guid)), "{line}");
        assert!(line.contains("seed") || line.contains(&format!("name=\"{}\"", partition.name)), "{line}");
    }
}

/// An independent reader, which knows both sector sizes without a loop device.
#[test]
fn the_gpt_crate_agrees() {
    use ::gpt as other;
    for (sector_size, size) in
        [(512, other::disk::LogicalBlockSize::Lb512), (4096, other::disk::LogicalBlockSize::Lb4096)]
    {
        let table = table(sector_size);
        let disk = std::io::Cursor::new(bytes(&table));
        let config =
            other::GptConfig::new().writable(false).logical_block_size(size).only_valid_headers(true);
        let disk = config.open_from_device(disk).unwrap();
        assert!(disk.primary_header().is_ok() && disk.backup_header().is_ok());
        assert_eq!(disk.guid().as_bytes(), table.disk_guid.as_bytes());
        assert_eq!(disk.partitions().len(), table.partitions.len());
        for wanted in &table.partitions {
            let found = &disk.partitions()[&wanted.number];
            assert_eq!(
                (found.first_lba, found.last_lba, found.flags),
                (wanted.first_lba, wanted.last_lba, wanted.attributes)
            );
            assert_eq!(
                (found.name.as_str(), found.part_guid.as_bytes()),
                (wanted.name.as_str(), wanted.guid.as_bytes())
            );
        }
    }
}

/// Each copy's damage is named, and the other one serves.
#[test]
fn damage_is_named() {
    for sector_size in [512_u32, 4096] {
        let wanted = table(sector_size);
        let whole = bytes(&wanted);
        let sector = usize::try_from(sector_size).unwrap();
        let last = whole.len() - sector;
        let with = |places: &[usize]| {
            let mut bytes = whole.clone();
            for place in places {
                bytes[*place] ^= 0x40;
            }
            gpt::read(&bytes, sector_size)
        };
        let primary = |place| {
            let Found { table, primary, backup, .. } = with(&[place]).unwrap();
            assert!(table == wanted && backup.is_none(), "{place}");
            primary.unwrap()
        };
        let backup = |place| {
            let Found { table, primary, backup, .. } = with(&[place]).unwrap();
            assert!(table == wanted && primary.is_none(), "{place}");
            backup.unwrap()
        };
        assert!(matches!(primary(sector), Fault::NoSignature { lba: 1 }));
        assert!(matches!(primary(sector + 57), Fault::HeaderChecksum { lba: 1 }));
        assert!(matches!(primary(sector + 12), Fault::Header { .. } | Fault::HeaderChecksum { .. }));
        assert!(matches!(primary(2 * sector + 200), Fault::EntriesChecksum { lba: 1 }));
        assert!(matches!(backup(last), Fault::NoSignature { .. }));
        assert!(matches!(backup(last + 16), Fault::HeaderChecksum { .. }));
        assert!(matches!(backup(last - 1), Fault::EntriesChecksum { .. }));
        let none = with(&[sector, last + 30]).unwrap_err().to_string();
        assert!(none.contains("primary: no EFI PART at sector 1; backup: the header at sector"), "{none}");
    }
    let plain = vec![0; 1 << 20];
    assert!(matches!(gpt::detect(&plain), Err(ReadError::None { .. })));
    assert!(matches!(gpt::detect(&vec![0; 100]), Err(ReadError::Io(_))));
}

/// An image copied to a larger disk: read, then written again for the whole disk.
#[test]
fn a_table_moves_to_a_larger_disk() {
    let small = table(512);
    let mut disk = bytes(&small);
    disk.resize(200 << 20, 0);
    let found = gpt::detect(&disk).unwrap();
    assert_eq!(found.backup_lba, small.disk_size / 512 - 1);
    assert!(found.primary.is_none() && found.backup.is_none());
    assert_eq!((&found.table.partitions, found.table.disk_size), (&small.partitions, 200 * MIB));
    gpt::write(&found.table, &mut disk).unwrap();
    let moved = gpt::detect(&disk).unwrap();
    assert_eq!((moved.backup_lba, moved.table), (200 * MIB / 512 - 1, found.table));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    std::fs::write(&path, &disk).unwrap();
    let report = Tool::new("sgdisk", "gdisk").args(["-v"]).args([&path]).run();
    assert!(report.contains("No problems found"), "{report}");
    // A backup of another table is told.
    let last = disk.len() - 512;
    let mut other = small.clone();
    other.disk_size = 200 * MIB;
    other.partitions.pop();
    let other = bytes(&other);
    disk[last - 16_384..].copy_from_slice(&other[last - 16_384..]);
    assert!(matches!(gpt::detect(&disk).unwrap().backup, Some(Fault::Differs)));
}

#[test]
fn impossible_tables_are_refused() {
    let refuse = |change: &dyn Fn(&mut Table)| {
        let mut table = table(512);
        change(&mut table);
        let mut out = Vec::new();
        let error = gpt::write(&table, &mut out).unwrap_err();
        assert!(out.is_empty());
        error
    };
    let why = |change: &dyn Fn(&mut Partition)| refuse(&|table| change(&mut table.partitions[2])).to_string();
    assert!(matches!(refuse(&|table| table.sector_size = 2048), WriteError::SectorSize(2048)));
    assert!(matches!(refuse(&|table| table.disk_size -= 1), WriteError::DiskSize(_)));
    assert!(matches!(refuse(&|table| table.disk_size = 67 * 512), WriteError::DiskSize(_)));
    assert!(why(&|p| p.number = 0).contains("between 1 and 128"));
    assert!(why(&|p| p.number = 129).contains("between 1 and 128"));
    assert!(why(&|p| p.number = 1).contains("number or GUID of 1 (esp)"));
    assert!(why(&|p| p.guid = guid(2)).contains("number or GUID of 2"));
    assert!(why(&|p| p.guid = Uuid::nil()).contains("nil"));
    assert!(why(&|p| p.first_lba = 3000).contains("overlaps 1 (esp)"));
    assert!(why(&|p| p.last_lba = p.first_lba - 1).contains("not within 34 to"));
    assert!(why(&|p| p.last_lba = 87 * MIB / 512 - 33).contains("not within"));
    assert!(why(&|p| p.name = "\u{1f600}".repeat(19)).contains("more than 36"));
    assert!(why(&|p| p.name = "a\0b".to_owned()).contains("a NUL"));
}

#[test]
fn names_and_edges_hold() {
    let mut table = table(512);
    table.partitions[0].name = "x".repeat(36);
    table.partitions[1].name = "\u{1f600}".repeat(18);
    table.partitions[2].name = String::new();
    table.partitions[0].first_lba = 34;
    table.partitions[2].last_lba = table.last_usable();
    table.partitions[2].number = 128;
    assert_eq!(gpt::detect(&bytes(&table)).unwrap().table, table);
}

/// With the checksums set right, so that the fields behind them are reached.
fn healed(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32fast::hash(&bytes[1024..1024 + 16_384]);
    bytes[512 + 88..512 + 92].copy_from_slice(&crc.to_le_bytes());
    bytes[512 + 16..512 + 20].fill(0);
    let crc = crc32fast::hash(&bytes[512..512 + 92]);
    bytes[512 + 16..512 + 20].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn small() -> Vec<u8> {
    let partitions = vec![Partition {
        number: 1,
        type_guid: ESP,
        guid: guid(1),
        name: "esp".to_owned(),
        first_lba: 40,
        last_lba: 50,
        attributes: 0,
    }];
    bytes(&Table { disk_guid: guid(0), sector_size: 512, disk_size: 128 << 10, partitions })
}

#[test]
fn a_header_is_not_its_own_backup() {
    let mut bytes = small();
    bytes[512 + 32..512 + 40].copy_from_slice(&1_u64.to_le_bytes());
    let found = gpt::detect(&healed(bytes)).unwrap();
    assert!(matches!(found.primary, Some(Fault::Header { lba: 1, .. })) && found.backup.is_none());
}

proptest! {
    #![proptest_config(tools::cases(500))]

    #[test]
    fn reader_survives_random_bytes(mut bytes in prop::collection::vec(any::<u8>(), 0..9000), at in 0_usize..3) {
        let place = [512, 4096, 1024][at];
        if bytes.len() > place + 8 {
            bytes[place..place + 8].copy_from_slice(b"EFI PART");
        }
        let _ = gpt::detect(&bytes);
    }

    #[test]
    fn reader_survives_mutated_tables(
        edits in prop::collection::vec((proptest::prop_oneof![512_usize..604, 1024_usize..1280, 130_560_usize..130_652], any::<u8>()), 1..12),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = small();
        for (at, byte) in edits {
            bytes[at] = byte;
        }
        let mut bytes = healed(bytes);
        if cut.index(4) == 0 {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(found) = gpt::detect(&bytes) {
            for partition in &found.table.partitions {
                let end = partition.offset(found.table.sector_size) + partition.size(found.table.sector_size);
                assert!(end <= bytes.len() as u64);
            }
        }
    }
}

proptest! {
    #![proptest_config(tools::cases(40))]

    /// Any table that can be written comes back.
    #[test]
    fn any_table_comes_back(
        names in prop::collection::vec("\\PC{0,12}", 0..20),
        sizes in prop::collection::vec(0_u64..(3 * MIB), 20),
        large in any::<bool>(),
    ) {
        let wanted: Vec<Wanted> = (1..).zip(names).zip(sizes).map(|((number, name), size)| Wanted {
            number, type_guid: ROOT, guid: guid(number.into()), name, size, attributes: size,
        }).collect();
        let table = Table::plan(guid(0), if large { 4096 } else { 512 }, &wanted).unwrap();
        let mut bytes = Vec::new();
        if gpt::write(&table, &mut bytes).is_ok() {
            assert_eq!(gpt::detect(&bytes).unwrap().table, table);
        }
    }
}
