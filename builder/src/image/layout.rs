//! Which bytes of the disk belong to which partition. Pure.

use kiln_formats::tree::{Timestamp, Tree};
use std::fs::File;
use std::sync::Arc;
use uuid::Uuid;

/// Partitions start and end on multiples of this many bytes: what fdisk, parted and every flash page agree on.
const ALIGNMENT: u64 = 1 << 20;

/// A disk to be written.
#[derive(Debug)]
pub struct Disk {
    /// GUID of the partition table.
    pub guid: Uuid,
    /// Logical sector size in bytes: 512 or 4096.
    pub sector_size: u32,
    /// The partitions, in the order of their numbers and of their place on the disk.
    pub partitions: Vec<Partition>,
}

/// A partition to be written.
#[derive(Debug)]
pub struct Partition {
    /// Name in the GPT, at most 36 UTF-16 units.
    pub name: &'static str,
    /// Type GUID.
    pub type_guid: Uuid,
    /// Unique GUID.
    pub guid: Uuid,
    /// Size in bytes; rounded up to a whole MiB.
    pub size: u64,
    /// What it holds.
    pub body: Body,
}

/// What a partition holds.
#[derive(Debug)]
pub enum Body {
    /// A copy of an ext4 file system that gets this UUID.
    Ext4 {
        /// The file system; holes are kept.
        blob: Arc<File>,
        /// The copy's UUID.
        uuid: Uuid,
    },
    /// A copy of a FAT file system that gets this volume id.
    FatCopy {
        /// The file system; holes are kept.
        blob: Arc<File>,
        /// The copy's volume id.
        volume_id: u32,
    },
    /// A FAT file system made of a tree.
    Fat {
        /// What it holds.
        tree: Tree,
        /// Volume label, at most 11 characters.
        label: &'static str,
        /// Volume id.
        volume_id: u32,
        /// When the volume was made.
        created: Timestamp,
    },
}

/// Where a partition lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// First byte on the disk.
    pub start: u64,
    /// Number of bytes.
    pub size: u64,
}

/// `size` rounded up to a whole MiB.
pub fn align(size: u64) -> u64 {
    size.div_ceil(ALIGNMENT) * ALIGNMENT
}

/// The places of the partitions and the size of the whole disk in bytes.
pub fn place(sizes: impl IntoIterator<Item = u64>) -> (Vec<Placed>, u64) {
    let mut next = ALIGNMENT;
    let placed = sizes.into_iter().map(|size| {
        let size = align(size);
        let start = next;
        next += size;
        Placed { start, size }
    });
    let placed = placed.collect();
    // The backup header and entries need 33 sectors of 512 bytes or 5 of 4096: one MiB holds either.
    (placed, next + ALIGNMENT)
}

#[cfg(test)]
mod tests {
    use super::{Placed, place};

    #[test]
    fn places_are_aligned_and_leave_room_for_both_tables() {
        const MIB: u64 = 1 << 20;
        let (placed, size) = place([MIB, 3 * MIB + 1]);
        let want = [Placed { start: MIB, size: MIB }, Placed { start: 2 * MIB, size: 4 * MIB }];
        assert_eq!(placed, want);
        assert_eq!(size, 7 * MIB);
    }
}
