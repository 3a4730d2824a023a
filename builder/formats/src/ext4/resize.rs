//! The resize inode (inode 7; the kernel's `fs/ext4/resize.c`, `reserve_backup_gdb`): it owns the blocks
//! kept free behind every copy of the descriptors, so that an online resize finds them.
//!
//! Its double indirect block points to the reserved blocks behind the primary descriptors; each of those
//! is an indirect block that points to its counterparts in the groups with copies.

use super::format::{
    ADDRESSES_PER_BLOCK, BLOCK, BLOCK_BYTES, BLOCKS_PER_GROUP, SECTORS_PER_BLOCK, low32, put32,
};
use super::inode::{Inode, Time, mode};
use super::layout::{Layout, has_super};

/// Index of the double indirect block in `i_block`.
const DOUBLE_INDIRECT: usize = 13;

/// The inode; `map` is its double indirect block.
pub(super) fn inode(layout: &Layout, map: u64, time: Time) -> Inode {
    let copies = (0..layout.groups).filter(|group| has_super(*group)).count() as u64;
    let mut block = [0; 60];
    put32(&mut block, DOUBLE_INDIRECT * 4, low32(map));
    // The size of a file that uses all direct, indirect and double indirect blocks.
    let addresses = ADDRESSES_PER_BLOCK as u64;
    let size = (addresses * addresses + addresses + 12) * BLOCK_BYTES;
    Inode {
        mode: mode::REGULAR | 0o600,
        links: 1,
        size,
        sectors: (1 + layout.reserved_descriptor_blocks * copies) * SECTORS_PER_BLOCK,
        block,
        mtime: time,
        created: time,
        ..Inode::default()
    }
}

/// The double indirect block.
pub(super) fn map(layout: &Layout) -> Box<[u8; BLOCK]> {
    let mut out = Box::new([0; BLOCK]);
    for at in 0..layout.reserved_descriptor_blocks {
        let slot = (layout.descriptor_blocks + at) % ADDRESSES_PER_BLOCK as u64;
        put32(&mut out[..], low32(slot) as usize * 4, low32(1 + layout.descriptor_blocks + at));
    }
    out
}

/// The reserved block number `at` behind the primary descriptors.
pub(super) fn reserved_block(layout: &Layout, at: u64) -> Box<[u8; BLOCK]> {
    let mut out = Box::new([0; BLOCK]);
    let own = 1 + layout.descriptor_blocks + at;
    let copies = (1..layout.groups).filter(|group| has_super(*group));
    for (slot, group) in out.chunks_exact_mut(4).zip(copies) {
        slot.copy_from_slice(&low32(u64::from(group) * BLOCKS_PER_GROUP + own).to_le_bytes());
    }
    out
}
