//! Numbers that all structures share, and little-endian fields.

/// Bytes of a block. The writer knows this size only; the reader takes the superblock's.
pub(super) const BLOCK: usize = 4096;
/// The same for offsets.
pub(super) const BLOCK_BYTES: u64 = 4096;
/// Blocks that one block of bitmap describes (`s_blocks_per_group`).
pub(super) const BLOCKS_PER_GROUP: u64 = 32768;
/// Bytes of an inode on disk (`s_inode_size`).
pub(super) const INODE_SIZE: usize = 256;
/// Inodes in a block of the inode table.
pub(super) const INODES_PER_BLOCK: u32 = 16;
/// Bytes of a group descriptor with the `64bit` feature (`s_desc_size`).
pub(super) const DESCRIPTOR_SIZE: usize = 64;
/// Group descriptors in a block.
pub(super) const DESCRIPTORS_PER_BLOCK: u64 = 64;
/// Block numbers of 32 bits in a block of the old block map (the resize inode uses it).
pub(super) const ADDRESSES_PER_BLOCK: usize = 1024;
/// Groups whose bitmaps and inode tables lie together (`s_log_groups_per_flex` = 4).
pub(super) const GROUPS_PER_FLEX: u32 = 16;
/// Sectors of 512 bytes in a block, the unit of `i_blocks`.
pub(super) const SECTORS_PER_BLOCK: u64 = 8;
/// Highest number of blocks: block numbers stay within 32 bits, so that the resize inode reaches all.
pub(super) const MAX_BLOCKS: u64 = 1 << 32;

/// Inodes at most: rounded up in every group, their number must still fit 32 bits (`s_inodes_count`).
pub(super) const MAX_INODES: u32 = 0xF000_0000;

/// Inode numbers with a meaning (inodes.rst, "Special inodes").
pub(super) mod ino {
    /// The root directory.
    pub(in super::super) const ROOT: u32 = 2;
    /// Holds the reserved group descriptor blocks.
    pub(in super::super) const RESIZE: u32 = 7;
    /// The journal.
    pub(in super::super) const JOURNAL: u32 = 8;
    /// First one that is not reserved; by custom lost+found.
    pub(in super::super) const LOST_FOUND: u32 = 11;
}

/// Features (superblock.rst, `s_feature_compat`, `s_feature_incompat`, `s_feature_ro_compat`).
pub(super) mod feature {
    /// compat: `has_journal`.
    pub(in super::super) const HAS_JOURNAL: u32 = 0x4;
    /// compat: `ext_attr`.
    pub(in super::super) const EXT_ATTR: u32 = 0x8;
    /// compat: `resize_inode`.
    pub(in super::super) const RESIZE_INODE: u32 = 0x10;
    /// compat: `dir_index`.
    pub(in super::super) const DIR_INDEX: u32 = 0x20;
    /// incompat: `filetype`.
    pub(in super::super) const FILETYPE: u32 = 0x2;
    /// incompat: the journal must be replayed first.
    pub(in super::super) const RECOVER: u32 = 0x4;
    /// incompat: `meta_bg`.
    pub(in super::super) const META_BG: u32 = 0x10;
    /// incompat: `extent`.
    pub(in super::super) const EXTENTS: u32 = 0x40;
    /// incompat: `64bit`.
    pub(in super::super) const SIXTY_FOUR_BIT: u32 = 0x80;
    /// incompat: `flex_bg`.
    pub(in super::super) const FLEX_BG: u32 = 0x200;
    /// incompat: `metadata_csum_seed`.
    pub(in super::super) const CSUM_SEED: u32 = 0x2000;
    /// incompat: `large_dir`.
    pub(in super::super) const LARGE_DIR: u32 = 0x4000;
    /// ro_compat: `sparse_super`.
    pub(in super::super) const SPARSE_SUPER: u32 = 0x1;
    /// ro_compat: `large_file`.
    pub(in super::super) const LARGE_FILE: u32 = 0x2;
    /// ro_compat: `huge_file`.
    pub(in super::super) const HUGE_FILE: u32 = 0x8;
    /// ro_compat: `dir_nlink`.
    pub(in super::super) const DIR_NLINK: u32 = 0x20;
    /// ro_compat: `extra_isize`.
    pub(in super::super) const EXTRA_ISIZE: u32 = 0x40;
    /// ro_compat: `metadata_csum`.
    pub(in super::super) const METADATA_CSUM: u32 = 0x400;
}

/// Stores 16 bits at `at`.
pub(super) fn put16(buf: &mut [u8], at: usize, value: u16) {
    buf[at..at + 2].copy_from_slice(&value.to_le_bytes());
}
/// Stores 32 bits at `at`.
pub(super) fn put32(buf: &mut [u8], at: usize, value: u32) {
    buf[at..at + 4].copy_from_slice(&value.to_le_bytes());
}
/// 16 bits at `at`; bytes past the end of `buf` count as zero.
pub(super) fn get16(buf: &[u8], at: usize) -> u16 {
    buf.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u16::from_le_bytes(*bytes))
}
/// 32 bits at `at`; bytes past the end of `buf` count as zero.
pub(super) fn get32(buf: &[u8], at: usize) -> u32 {
    buf.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}
/// Two halves of a 64 bit field that the format keeps apart.
pub(super) fn join(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}
/// Low half of a 64 bit field.
pub(super) fn low32(value: u64) -> u32 {
    (value & 0xFFFF_FFFF) as u32
}
/// High half of a 64 bit field.
pub(super) fn high32(value: u64) -> u32 {
    low32(value >> 32)
}
/// Low half of a 32 bit field.
pub(super) fn low16(value: u32) -> u16 {
    (value & 0xFFFF) as u16
}
/// High half of a 32 bit field.
pub(super) fn high16(value: u32) -> u16 {
    low16(value >> 16)
}
/// A count or offset that is known to fit memory (bounded by a block or by the entries of a tree).
pub(super) fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
