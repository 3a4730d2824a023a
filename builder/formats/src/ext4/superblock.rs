//! The superblock (superblock.rst): 1024 bytes, at byte 1024 of the first group and at the start of every
//! group that holds a copy.

use super::checksum::Checksum;
use super::format::{feature, get16, get32, high32, ino, join, low16, low32, put16, put32};
use super::hash::HALF_MD4;
use super::inode::Time;

/// Bytes of a superblock.
pub(super) const SIZE: usize = 1024;
/// Where the primary one lies.
pub(super) const OFFSET: u64 = 1024;
/// `s_magic`.
pub(super) const MAGIC: u16 = 0xEF53;
/// Offset of `s_uuid`.
const UUID_AT: usize = 0x68;
/// Offset of `s_checksum`, the last field.
const CHECKSUM_AT: usize = 0x3FC;
/// `s_flags`: names are hashed as unsigned bytes.
const UNSIGNED_HASH: u32 = 2;
/// `s_default_mount_opts`: user xattrs and ACLs, as mke2fs sets.
const USER_XATTR_AND_ACL: u32 = 0x4 | 0x8;

/// What the writer puts into a superblock.
#[derive(Debug)]
pub(super) struct Fields {
    pub(super) inodes: u32,
    pub(super) blocks: u64,
    pub(super) free_blocks: u64,
    pub(super) free_inodes: u32,
    pub(super) inodes_per_group: u32,
    pub(super) reserved_descriptor_blocks: u16,
    pub(super) uuid: [u8; 16],
    pub(super) hash_seed: [u8; 16],
    pub(super) label: [u8; 16],
    pub(super) created: Time,
    pub(super) checksum_seed: Checksum,
    /// `s_jnl_blocks`: a copy of the journal's `i_block` and size, for a journal inode that got lost.
    pub(super) journal_block: [u8; 60],
    pub(super) journal_size: u64,
}

impl Fields {
    /// The bytes of the copy in `group`.
    pub(super) fn encode(&self, group: u32) -> [u8; SIZE] {
        let mut out = [0; SIZE];
        put32(&mut out, 0x0, self.inodes);
        put32(&mut out, 0x4, low32(self.blocks));
        put32(&mut out, 0xC, low32(self.free_blocks));
        put32(&mut out, 0x10, self.free_inodes);
        put32(&mut out, 0x18, 2); // s_log_block_size: 1024 << 2
        put32(&mut out, 0x1C, 2); // s_log_cluster_size
        put32(&mut out, 0x20, 32768); // s_blocks_per_group
        put32(&mut out, 0x24, 32768); // s_clusters_per_group
        put32(&mut out, 0x28, self.inodes_per_group);
        put32(&mut out, 0x30, self.created.seconds); // s_wtime
        put16(&mut out, 0x36, 0xFFFF); // s_max_mnt_count: no check by count
        put16(&mut out, 0x38, MAGIC);
        put16(&mut out, 0x3A, 1); // s_state: clean
        put16(&mut out, 0x3C, 1); // s_errors: continue
        put32(&mut out, 0x40, self.created.seconds); // s_lastcheck
        put32(&mut out, 0x4C, 1); // s_rev_level: dynamic inode sizes
        put32(&mut out, 0x54, ino::LOST_FOUND); // s_first_ino
        put16(&mut out, 0x58, 256); // s_inode_size
        put16(&mut out, 0x5A, low16(group)); // s_block_group_nr
        let resize = if self.reserved_descriptor_blocks > 0 { feature::RESIZE_INODE } else { 0 };
        put32(&mut out, 0x5C, feature::HAS_JOURNAL | feature::EXT_ATTR | feature::DIR_INDEX | resize);
        put32(
            &mut out,
            0x60,
            feature::FILETYPE
                | feature::EXTENTS
                | feature::SIXTY_FOUR_BIT
                | feature::FLEX_BG
                | feature::CSUM_SEED,
        );
        put32(
            &mut out,
            0x64,
            feature::SPARSE_SUPER
                | feature::LARGE_FILE
                | feature::HUGE_FILE
                | feature::DIR_NLINK
                | feature::EXTRA_ISIZE
                | feature::METADATA_CSUM,
        );
        out[UUID_AT..UUID_AT + 16].copy_from_slice(&self.uuid);
        out[0x78..0x88].copy_from_slice(&self.label);
        put16(&mut out, 0xCE, self.reserved_descriptor_blocks);
        put32(&mut out, 0xE0, ino::JOURNAL); // s_journal_inum
        out[0xEC..0xFC].copy_from_slice(&self.hash_seed);
        out[0xFC] = HALF_MD4; // s_def_hash_version
        out[0xFD] = 1; // s_jnl_backup_type: inode
        put16(&mut out, 0xFE, 64); // s_desc_size
        put32(&mut out, 0x100, USER_XATTR_AND_ACL);
        put32(&mut out, 0x108, self.created.seconds); // s_mkfs_time
        out[0x10C..0x148].copy_from_slice(&self.journal_block);
        put32(&mut out, 0x148, high32(self.journal_size));
        put32(&mut out, 0x14C, low32(self.journal_size));
        put32(&mut out, 0x150, high32(self.blocks));
        put32(&mut out, 0x158, high32(self.free_blocks));
        put16(&mut out, 0x15C, 32); // s_min_extra_isize
        put16(&mut out, 0x15E, 32); // s_want_extra_isize
        put32(&mut out, 0x160, UNSIGNED_HASH);
        out[0x174] = 4; // s_log_groups_per_flex
        out[0x175] = 1; // s_checksum_type: crc32c
        put32(&mut out, 0x270, self.checksum_seed.0);
        for at in [0x274, 0x276, 0x277] {
            out[at] = u8::try_from(self.created.extra & 3).unwrap_or(0); // s_wtime_hi and the like
        }
        seal(&mut out);
        out
    }
}

/// Writes the checksum.
fn seal(bytes: &mut [u8; SIZE]) {
    let sum = Checksum::START.with(&bytes[..CHECKSUM_AT]).0;
    put32(bytes, CHECKSUM_AT, sum);
}

/// Puts another UUID into an encoded superblock.
pub(super) fn replace_uuid(bytes: &mut [u8; SIZE], uuid: [u8; 16]) {
    bytes[UUID_AT..UUID_AT + 16].copy_from_slice(&uuid);
    seal(bytes);
}

/// True when the checksum fits the bytes.
pub(super) fn is_sealed(bytes: &[u8; SIZE]) -> bool {
    get32(bytes, CHECKSUM_AT) == Checksum::START.with(&bytes[..CHECKSUM_AT]).0
}

/// What the reader takes from a superblock, as stored.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) inodes: u32,
    pub(super) blocks: u64,
    pub(super) free_blocks: u64,
    pub(super) free_inodes: u32,
    pub(super) first_data_block: u32,
    pub(super) log_block_size: u32,
    pub(super) blocks_per_group: u32,
    pub(super) inodes_per_group: u32,
    pub(super) magic: u16,
    pub(super) inode_size: u16,
    pub(super) compat: u32,
    pub(super) incompat: u32,
    pub(super) ro_compat: u32,
    pub(super) uuid: [u8; 16],
    pub(super) label: [u8; 16],
    pub(super) descriptor_size: u16,
    pub(super) first_meta_bg: u32,
    pub(super) checksum_seed: Checksum,
    pub(super) created: Time,
}

impl Stored {
    /// The fields of an encoded superblock, not judged.
    pub(super) fn decode(bytes: &[u8; SIZE]) -> Self {
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&bytes[UUID_AT..UUID_AT + 16]);
        let mut label = [0; 16];
        label.copy_from_slice(&bytes[0x78..0x88]);
        let incompat = get32(bytes, 0x60);
        let wide = incompat & feature::SIXTY_FOUR_BIT != 0;
        let high = |at| if wide { get32(bytes, at) } else { 0 };
        let seeded = incompat & feature::CSUM_SEED != 0;
        Self {
            inodes: get32(bytes, 0x0),
            blocks: join(high(0x150), get32(bytes, 0x4)),
            free_blocks: join(high(0x158), get32(bytes, 0xC)),
            free_inodes: get32(bytes, 0x10),
            first_data_block: get32(bytes, 0x14),
            log_block_size: get32(bytes, 0x18),
            blocks_per_group: get32(bytes, 0x20),
            inodes_per_group: get32(bytes, 0x28),
            magic: get16(bytes, 0x38),
            inode_size: get16(bytes, 0x58),
            compat: get32(bytes, 0x5C),
            incompat,
            ro_compat: get32(bytes, 0x64),
            uuid,
            label,
            descriptor_size: if wide { get16(bytes, 0xFE) } else { 32 },
            first_meta_bg: get32(bytes, 0x104),
            checksum_seed: if seeded { Checksum(get32(bytes, 0x270)) } else { Checksum::START.with(&uuid) },
            created: Time { seconds: get32(bytes, 0x108), extra: u32::from(bytes[0x276] & 3) },
        }
    }
}
