//! The GUID partition table.
//!
//! Facts are from the UEFI specification 2.10: section 5.2.3 (Protective MBR), 5.3.1 (GPT overview), 5.3.2
//! (GPT Header) and 5.3.3 (GPT Partition Entry Array). There are two copies: the primary one behind the
//! protective MBR, and the backup one at the end of the disk.

mod read;
mod write;

pub use read::{Fault, Found, ReadError, detect, read};
pub use write::{WriteError, write};

use uuid::Uuid;

/// `EFI PART`, the first bytes of a header.
const SIGNATURE: &[u8; 8] = b"EFI PART";
/// Revision 1.0.
const REVISION: u32 = 0x0001_0000;
/// Bytes of a header that mean something.
const HEADER: usize = 92;
/// Bytes of an entry as everybody writes it; the specification allows larger powers of two.
const ENTRY: usize = 128;
/// Entries of a table as everybody writes it: 16 KiB, the least that the specification allows.
const ENTRIES: u32 = 128;
/// UTF-16 units of a partition's name.
const NAME: usize = 36;
/// Partitions begin at multiples of this (bytes), which suits every disk's pages and stripes.
const ALIGNMENT: u64 = 1 << 20;

/// A partition table and the disk that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The disk's identifier.
    pub disk_guid: Uuid,
    /// Bytes a sector: 512 or 4096.
    pub sector_size: u32,
    /// Bytes of the disk; the backup table lies in its last sectors.
    pub disk_size: u64,
    /// In the order of their numbers.
    pub partitions: Vec<Partition>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// From 1 to 128: its place in the array, and the end of its device's name.
    pub number: u32,
    /// What it is for.
    pub type_guid: Uuid,
    /// Its identifier.
    pub guid: Uuid,
    /// Its label, at most 36 UTF-16 units.
    pub name: String,
    /// First sector.
    pub first_lba: u64,
    /// Last sector: it belongs to the partition.
    pub last_lba: u64,
    /// Attribute bits (specification, table 5-8): 0 required, 2 legacy boot, 48 to 63 the type's own.
    pub attributes: u64,
}

/// A partition that is to be given its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// As in [`Partition`].
    pub number: u32,
    /// As in [`Partition`].
    pub type_guid: Uuid,
    /// As in [`Partition`].
    pub guid: Uuid,
    /// As in [`Partition`].
    pub name: String,
    /// Size in bytes; rounded up to whole MiB.
    pub size: u64,
    /// As in [`Partition`].
    pub attributes: u64,
}

impl Partition {
    /// Offset of its first byte on a disk with such sectors (bytes).
    pub fn offset(&self, sector_size: u32) -> u64 {
        self.first_lba.saturating_mul(u64::from(sector_size))
    }

    /// Its size on a disk with such sectors (bytes).
    pub fn size(&self, sector_size: u32) -> u64 {
        (self.last_lba.saturating_sub(self.first_lba))
            .saturating_add(1)
            .saturating_mul(u64::from(sector_size))
    }
}

impl Table {
    /// Lays partitions out one after the other from 1 MiB on, each at a multiple of 1 MiB; the disk ends
    /// 1 MiB after the last one, which is room for the backup table. `None` when the sizes go beyond 64 bits.
    pub fn plan(disk_guid: Uuid, sector_size: u32, wanted: &[Wanted]) -> Option<Self> {
        let sector = u64::from(sector_size.max(1));
        let mut at = ALIGNMENT;
        let mut partitions = Vec::with_capacity(wanted.len());
        for Wanted { number, type_guid, guid, name, size, attributes } in wanted {
            let end = at.checked_add((*size).max(1).checked_next_multiple_of(ALIGNMENT)?)?;
            partitions.push(Partition {
                number: *number,
                type_guid: *type_guid,
                guid: *guid,
                name: name.clone(),
                first_lba: at / sector,
                last_lba: end / sector - 1,
                attributes: *attributes,
            });
            at = end;
        }
        partitions.sort_by_key(|partition| partition.number);
        Some(Self { disk_guid, sector_size, disk_size: at.checked_add(ALIGNMENT)?, partitions })
    }

    /// The partition of this number.
    pub fn partition(&self, number: u32) -> Option<&Partition> {
        self.partitions.iter().find(|partition| partition.number == number)
    }

    /// Sectors of the disk.
    fn sectors(&self) -> u64 {
        self.disk_size / u64::from(self.sector_size.max(1))
    }

    /// Sectors of an array of entries.
    fn array_sectors(&self) -> u64 {
        (u64::from(ENTRIES) * ENTRY as u64).div_ceil(u64::from(self.sector_size.max(1)))
    }

    /// The first sector that a partition may have.
    pub fn first_usable(&self) -> u64 {
        2 + self.array_sectors()
    }

    /// The last sector that a partition may have.
    pub fn last_usable(&self) -> u64 {
        self.sectors().saturating_sub(2 + self.array_sectors())
    }
}
