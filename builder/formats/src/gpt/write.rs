//! Writing both copies of a table.

use super::{ENTRIES, ENTRY, HEADER, NAME, Partition, REVISION, SIGNATURE, Table};
use crate::io::WriteAt;
use std::io;

/// Why a table cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Not a sector size that disks have.
    #[error("sectors of {0} bytes are not possible: disks have 512 or 4096")]
    SectorSize(u32),
    /// Not a whole number of sectors, or too few for two tables.
    #[error("a disk of {0} bytes is too small for a partition table, or not a whole number of sectors")]
    DiskSize(u64),
    /// A partition is impossible.
    #[error("partition {number} ({name}): {why}")]
    Partition {
        /// Its number.
        number: u32,
        /// Its name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// Writing failed.
    #[error("writing the partition table: {0}")]
    Io(#[from] io::Error),
}

/// Writes the backup table, the primary table and the protective MBR, in this order: when power fails in
/// between, one of the two copies is whole. Boot code in the MBR is replaced by zeros.
///
/// # Errors
/// See [`WriteError`]. Nothing is written when the table is not possible.
pub fn write<W: WriteAt + ?Sized>(table: &Table, out: &mut W) -> Result<(), WriteError> {
    check(table)?;
    let sector = u64::from(table.sector_size);
    let last = table.sectors() - 1;
    let entries = entries(table);
    let array = crc32fast::hash(&entries);
    let backup_array = last - table.array_sectors();
    out.write_all_at(&entries, backup_array * sector)?;
    out.write_all_at(
        &header(table, &Copy { my: last, other: 1, array: backup_array }, array),
        last * sector,
    )?;
    out.write_all_at(&entries, 2 * sector)?;
    out.write_all_at(&header(table, &Copy { my: 1, other: last, array: 2 }, array), sector)?;
    out.write_all_at(&protective_mbr(last), 0)?;
    Ok(())
}

fn check(table: &Table) -> Result<(), WriteError> {
    if !matches!(table.sector_size, 512 | 4096) {
        return Err(WriteError::SectorSize(table.sector_size));
    }
    let whole = table.disk_size.is_multiple_of(u64::from(table.sector_size));
    if !whole || table.sectors() < 2 * table.first_usable() {
        return Err(WriteError::DiskSize(table.disk_size));
    }
    let (first, last) = (table.first_usable(), table.last_usable());
    for (at, partition) in table.partitions.iter().enumerate() {
        let bad = |why: String| {
            let (number, name) = (partition.number, partition.name.clone());
            Err(WriteError::Partition { number, name, why })
        };
        if !(1..=ENTRIES).contains(&partition.number) {
            return bad(format!("its number is not between 1 and {ENTRIES}"));
        }
        if partition.name.encode_utf16().count() > NAME || partition.name.contains('\0') {
            return bad(format!("its name has a NUL or more than {NAME} UTF-16 units"));
        }
        if partition.type_guid.is_nil() || partition.guid.is_nil() {
            return bad("a GUID is nil, which marks unused entries".to_owned());
        }
        let Partition { first_lba, last_lba, .. } = *partition;
        if first_lba > last_lba || first_lba < first || last_lba > last {
            return bad(format!("sectors {first_lba} to {last_lba} are not within {first} to {last}"));
        }
        for other in &table.partitions[..at] {
            if other.number == partition.number || other.guid == partition.guid {
                return bad(format!("it has the number or GUID of {} ({})", other.number, other.name));
            }
            if first_lba <= other.last_lba && other.first_lba <= last_lba {
                return bad(format!("it overlaps {} ({})", other.number, other.name));
            }
        }
    }
    Ok(())
}

/// The array of entries (section 5.3.3).
fn entries(table: &Table) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(ENTRIES).unwrap_or_default() * ENTRY];
    for partition in &table.partitions {
        let place = usize::try_from(partition.number - 1).unwrap_or_default() * ENTRY;
        let entry = &mut bytes[place..place + ENTRY];
        entry[..16].copy_from_slice(&partition.type_guid.to_bytes_le());
        entry[16..32].copy_from_slice(&partition.guid.to_bytes_le());
        entry[32..40].copy_from_slice(&partition.first_lba.to_le_bytes());
        entry[40..48].copy_from_slice(&partition.last_lba.to_le_bytes());
        entry[48..56].copy_from_slice(&partition.attributes.to_le_bytes());
        for (unit, place) in partition.name.encode_utf16().zip(entry[56..].chunks_exact_mut(2)) {
            place.copy_from_slice(&unit.to_le_bytes());
        }
    }
    bytes
}

/// Where one of the two copies lies: its header, the other's header, its array.
struct Copy {
    my: u64,
    other: u64,
    array: u64,
}

/// A header (section 5.3.2), as a whole sector: the rest of it must be zero.
fn header(table: &Table, copy: &Copy, array_crc: u32) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(table.sector_size).unwrap_or_default()];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    let entry = u32::try_from(ENTRY).unwrap_or_default();
    let size = u32::try_from(HEADER).unwrap_or_default();
    put(0, SIGNATURE);
    put(8, &REVISION.to_le_bytes());
    put(12, &size.to_le_bytes());
    put(24, &copy.my.to_le_bytes());
    put(32, &copy.other.to_le_bytes());
    put(40, &table.first_usable().to_le_bytes());
    put(48, &table.last_usable().to_le_bytes());
    put(56, &table.disk_guid.to_bytes_le());
    put(72, &copy.array.to_le_bytes());
    put(80, &ENTRIES.to_le_bytes());
    put(84, &entry.to_le_bytes());
    put(88, &array_crc.to_le_bytes());
    // Its own checksum is computed over zeros in its place.
    let crc = crc32fast::hash(&bytes[..HEADER]);
    bytes[16..20].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// One record of type 0xEE over the whole disk, so that old tools keep off (section 5.2.3).
fn protective_mbr(last: u64) -> [u8; 512] {
    let mut bytes = [0; 512];
    let size = u32::try_from(last).unwrap_or(u32::MAX);
    // Cylinder 0, head 0, sector 2; the end is beyond what these fields can say.
    bytes[446..454].copy_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff]);
    bytes[454..458].copy_from_slice(&1_u32.to_le_bytes());
    bytes[458..462].copy_from_slice(&size.to_le_bytes());
    bytes[510..].copy_from_slice(&[0x55, 0xaa]);
    bytes
}
