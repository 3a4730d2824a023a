//! An empty journal (journal.rst): a version 2 superblock, big-endian, and zeros.

use super::format::BLOCK;

/// `h_magic` of every journal block.
const MAGIC: u32 = 0xC03B_3998;
/// `h_blocktype`: superblock, version 2.
const SUPERBLOCK_V2: u32 = 4;
/// The least that jbd2 takes (`JBD2_MIN_JOURNAL_BLOCKS`).
pub(super) const MIN_BLOCKS: u32 = 1024;
/// 4 GiB; more only costs.
pub(super) const MAX_BLOCKS: u32 = 1 << 20;

/// Journal blocks for a file system of `blocks`: mke2fs' steps (`ext2fs_default_journal_size`).
pub(super) fn default_blocks(blocks: u64) -> u32 {
    const STEPS: [(u64, u32); 7] = [
        (32 << 10, 1 << 10),
        (256 << 10, 4 << 10),
        (512 << 10, 8 << 10),
        (4 << 20, 16 << 10),
        (8 << 20, 32 << 10),
        (16 << 20, 64 << 10),
        (32 << 20, 128 << 10),
    ];
    STEPS.iter().find(|(below, _)| blocks < *below).map_or(256 << 10, |(_, journal)| *journal)
}

/// The journal's first block. `uuid` seeds the journal's own checksums, should the kernel turn them on.
pub(super) fn superblock(blocks: u32, uuid: [u8; 16]) -> Box<[u8; BLOCK]> {
    let mut out = Box::new([0; BLOCK]);
    let fields = [
        (0x0, MAGIC),
        (0x4, SUPERBLOCK_V2),
        (0xC, 4096),    // s_blocksize
        (0x10, blocks), // s_maxlen
        (0x14, 1),      // s_first: the block after this one
        (0x18, 1),      // s_sequence; s_start stays 0, which says that the journal is empty
        (0x40, 1),      // s_nr_users
    ];
    for (at, value) in fields {
        out[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }
    out[0x30..0x40].copy_from_slice(&uuid);
    out
}
