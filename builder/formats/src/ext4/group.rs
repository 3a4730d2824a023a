//! Group descriptors (group_descr.rst) and bitmaps (bitmaps.rst).

use super::checksum::Checksum;
use super::format::{DESCRIPTOR_SIZE, get16, get32, high16, high32, join, low16, low32, put16, put32};

/// `bg_flags`: the inode bitmap and table are not initialised.
pub(super) const INODE_UNINIT: u16 = 1;
/// `bg_flags`: the block bitmap is not initialised.
pub(super) const BLOCK_UNINIT: u16 = 2;
/// `bg_flags`: the unused rest of the inode table is zero.
pub(super) const INODE_ZEROED: u16 = 4;

/// One group's descriptor.
#[derive(Debug, Clone, Default)]
pub(super) struct Descriptor {
    pub(super) block_bitmap: u64,
    pub(super) inode_bitmap: u64,
    pub(super) inode_table: u64,
    pub(super) free_blocks: u32,
    pub(super) free_inodes: u32,
    pub(super) directories: u32,
    pub(super) flags: u16,
    pub(super) block_bitmap_sum: u32,
    pub(super) inode_bitmap_sum: u32,
    pub(super) unused_inodes: u32,
}

impl Descriptor {
    /// The 64 bytes of the descriptor of `group`, with its checksum.
    pub(super) fn encode(&self, group: u32, seed: Checksum) -> [u8; DESCRIPTOR_SIZE] {
        let mut out = [0; DESCRIPTOR_SIZE];
        let places = [self.block_bitmap, self.inode_bitmap, self.inode_table];
        for (place, (low, high)) in places.into_iter().zip([(0x0, 0x20), (0x4, 0x24), (0x8, 0x28)]) {
            put32(&mut out, low, low32(place));
            put32(&mut out, high, high32(place));
        }
        let counts = [
            (self.free_blocks, 0xC, 0x2C),
            (self.free_inodes, 0xE, 0x2E),
            (self.directories, 0x10, 0x30),
            (self.block_bitmap_sum, 0x18, 0x38),
            (self.inode_bitmap_sum, 0x1A, 0x3A),
            (self.unused_inodes, 0x1C, 0x32),
        ];
        for (count, low, high) in counts {
            put16(&mut out, low, low16(count));
            put16(&mut out, high, high16(count));
        }
        put16(&mut out, 0x12, self.flags);
        let sum = checksum(&out, group, seed);
        put16(&mut out, 0x1E, sum);
        out
    }
}

/// `bg_checksum` of a descriptor, its own field taken as zero: the low half of the sum.
pub(super) fn checksum(bytes: &[u8], group: u32, seed: Checksum) -> u16 {
    low16(seed.with(&group.to_le_bytes()).with(&bytes[..0x1E]).with(&[0; 2]).with(&bytes[0x20..]).0)
}

/// The checksum that a descriptor carries.
pub(super) fn stored_checksum(bytes: &[u8]) -> u16 {
    get16(bytes, 0x1E)
}

/// `bg_inode_table` of a descriptor of 32 bytes or more.
pub(super) fn inode_table(bytes: &[u8]) -> u64 {
    let high = if bytes.len() >= DESCRIPTOR_SIZE { get32(bytes, 0x28) } else { 0 };
    join(high, get32(bytes, 0x8))
}

/// Sets bits `from` to `to` (not with it) of a bitmap, lowest bit first.
pub(super) fn set_bits(bitmap: &mut [u8], from: usize, to: usize) {
    let mut at = from;
    while at < to {
        if at.is_multiple_of(8) && to - at >= 8 {
            let end = to / 8;
            bitmap[at / 8..end].fill(0xFF);
            at = end * 8;
        } else {
            bitmap[at / 8] |= 1 << (at % 8);
            at += 1;
        }
    }
}
