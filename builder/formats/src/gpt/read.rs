//! Reading a table, with a word on the health of both copies.

use super::{ENTRY, HEADER, NAME, Partition, SIGNATURE, Table};
use crate::io::ReadAt;
use std::io;
use uuid::Uuid;

/// Tables with larger arrays (bytes) exist in no tool; the limit is for what a hostile disk claims.
const ARRAY_MAX: u64 = 1 << 20;

/// What is wrong with one copy of a table.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// No `EFI PART`.
    #[error("no EFI PART at sector {lba}")]
    NoSignature {
        /// Where a header should be.
        lba: u64,
    },
    /// The header's checksum.
    #[error("the header at sector {lba} does not match its checksum")]
    HeaderChecksum {
        /// Where the header is.
        lba: u64,
    },
    /// A field of the header cannot be.
    #[error("the header at sector {lba} is impossible: {what}")]
    Header {
        /// Where the header is.
        lba: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The array's checksum.
    #[error("the partition entries of the header at sector {lba} do not match their checksum")]
    EntriesChecksum {
        /// Where the header is.
        lba: u64,
    },
    /// A partition's sectors.
    #[error("partition {number} is not within the disk, or ends before it begins")]
    Partition {
        /// Its number.
        number: u32,
    },
    /// Both copies are whole, but not the same. The primary one counts.
    #[error("the backup table is not the same as the primary one")]
    Differs,
    /// The disk could not be read.
    #[error("reading sector {lba}: {source}")]
    Io {
        /// Where.
        lba: u64,
        /// What failed.
        source: io::Error,
    },
}

/// Why there is no table to be had.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Both copies are damaged, or there is none.
    #[error("no partition table: primary: {primary}; backup: {backup}")]
    None {
        /// What is wrong with the first.
        primary: Box<Fault>,
        /// What is wrong with the second.
        backup: Box<Fault>,
    },
    /// The disk's size could not be found out, or it has less than two sectors, or its sectors are impossible.
    #[error("reading the disk: {0}")]
    Io(#[from] io::Error),
}

/// A table that was read.
#[derive(Debug)]
pub struct Found {
    /// The primary table, or the backup one when that is damaged.
    pub table: Table,
    /// The primary copy's fault.
    pub primary: Option<Fault>,
    /// The backup copy's fault.
    pub backup: Option<Fault>,
    /// Where the primary header says that the backup is (sector): not the disk's last sector when the disk has
    /// grown, or an image was copied to a larger one.
    pub backup_lba: u64,
}

/// Reads the table of a disk or image with 512 or 4096 byte sectors, whichever has one.
///
/// # Errors
/// See [`ReadError`]; that of 512 byte sectors when there is none with either.
pub fn detect(disk: &dyn ReadAt) -> Result<Found, ReadError> {
    let first = read(disk, 512);
    if matches!(&first, Ok(found) if found.primary.is_none()) {
        return first;
    }
    match read(disk, 4096) {
        // A damaged table of one kind loses against a whole one of the other.
        Ok(found) if found.primary.is_none() || first.is_err() => Ok(found),
        _ => first,
    }
}

/// Reads the table of a disk with sectors of `sector_size` bytes.
///
/// # Errors
/// See [`ReadError`].
pub fn read(disk: &dyn ReadAt, sector_size: u32) -> Result<Found, ReadError> {
    let disk_size = disk.size()?;
    let sectors = disk_size / u64::from(sector_size.max(1));
    if !matches!(sector_size, 512 | 4096) || sectors < 2 {
        return Err(io::Error::from(io::ErrorKind::InvalidInput).into());
    }
    let disk = Disk { disk, sector_size, disk_size };
    let primary = disk.copy(1);
    let backup_lba = primary.as_ref().map_or(sectors - 1, |header| header.other);
    let backup = disk.copy(backup_lba);
    match (primary, backup) {
        (Ok(primary), Ok(backup)) => {
            let backup = (primary.table != backup.table).then_some(Fault::Differs);
            Ok(Found { table: primary.table, primary: None, backup, backup_lba })
        }
        (Ok(primary), Err(backup)) => {
            Ok(Found { table: primary.table, primary: None, backup: Some(backup), backup_lba })
        }
        (Err(fault), Ok(backup)) => {
            Ok(Found { table: backup.table, primary: Some(fault), backup: None, backup_lba })
        }
        (Err(primary), Err(backup)) => {
            Err(ReadError::None { primary: Box::new(primary), backup: Box::new(backup) })
        }
    }
}

/// One copy of a table, and where it says that the other one's header is.
struct Half {
    table: Table,
    other: u64,
}

struct Disk<'a> {
    disk: &'a dyn ReadAt,
    sector_size: u32,
    disk_size: u64,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn guid_at(bytes: &[u8], at: usize) -> Uuid {
    let bytes = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
    bytes.map_or_else(Uuid::nil, |bytes| Uuid::from_bytes_le(*bytes))
}

impl Disk<'_> {
    fn bytes(&self, len: usize, lba: u64) -> Result<Vec<u8>, Fault> {
        let io = |source| Fault::Io { lba, source };
        let eof = || io(io::Error::from(io::ErrorKind::UnexpectedEof));
        let offset = lba.checked_mul(u64::from(self.sector_size)).ok_or_else(eof)?;
        // Checked before the memory is taken: a header may claim anything.
        if offset.checked_add(len as u64).is_none_or(|end| end > self.disk_size) {
            return Err(eof());
        }
        let mut bytes = vec![0; len];
        self.disk.read_exact_at(&mut bytes, offset).map_err(io)?;
        Ok(bytes)
    }

    /// The copy whose header is at `lba` (sections 5.3.2 and 5.3.3).
    fn copy(&self, lba: u64) -> Result<Half, Fault> {
        let sector = usize::try_from(self.sector_size).unwrap_or_default();
        let mut header = self.bytes(sector, lba)?;
        if !header.starts_with(SIGNATURE) {
            return Err(Fault::NoSignature { lba });
        }
        let bad = |what| Fault::Header { lba, what };
        let size = usize::try_from(u32_at(&header, 12)).unwrap_or_default();
        if !(HEADER..=sector).contains(&size) {
            return Err(bad("its size is not between 92 bytes and a sector"));
        }
        let crc = u32_at(&header, 16);
        header[16..20].fill(0);
        if crc32fast::hash(&header[..size]) != crc {
            return Err(Fault::HeaderChecksum { lba });
        }
        if u64_at(&header, 24) != lba {
            return Err(bad("it says that it lies elsewhere"));
        }
        if u64_at(&header, 32) == lba {
            return Err(bad("it says that it is its own backup"));
        }
        let (count, entry) = (u32_at(&header, 80), u32_at(&header, 84));
        let array = u64::from(count) * u64::from(entry);
        let entry = usize::try_from(entry).unwrap_or_default();
        if entry < ENTRY || !entry.is_power_of_two() || array > ARRAY_MAX {
            return Err(bad("its entries have an unknown size, or are too many"));
        }
        let entries = self.bytes(usize::try_from(array).unwrap_or_default(), u64_at(&header, 72))?;
        if crc32fast::hash(&entries) != u32_at(&header, 88) {
            return Err(Fault::EntriesChecksum { lba });
        }
        let sectors = self.disk_size / u64::from(self.sector_size);
        let mut partitions = Vec::new();
        for (number, entry) in (1..).zip(entries.chunks_exact(entry)) {
            let Some(partition) = partition(number, entry) else { continue };
            if partition.first_lba > partition.last_lba || partition.last_lba >= sectors {
                return Err(Fault::Partition { number });
            }
            partitions.push(partition);
        }
        let (sector_size, disk_size) = (self.sector_size, self.disk_size);
        let table = Table { disk_guid: guid_at(&header, 56), sector_size, disk_size, partitions };
        Ok(Half { table, other: u64_at(&header, 32) })
    }
}

/// An entry; `None` when it is unused.
fn partition(number: u32, entry: &[u8]) -> Option<Partition> {
    let type_guid = guid_at(entry, 0);
    if type_guid.is_nil() {
        return None;
    }
    let units = entry[56..].chunks_exact(2).take(NAME).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let name = char::decode_utf16(units.take_while(|unit| *unit != 0));
    Some(Partition {
        number,
        type_guid,
        guid: guid_at(entry, 16),
        name: name.map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER)).collect(),
        first_lba: u64_at(entry, 32),
        last_lba: u64_at(entry, 40),
        attributes: u64_at(entry, 48),
    })
}
