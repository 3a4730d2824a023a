//! Reading ext4: what an image says about itself, its tree, one file of it.
//!
//! The bytes may be anyone's: whatever they say, reading ends, in an error or in a tree whose size is
//! bounded by the size of the source. Journals are not replayed ([`Facts::needs_recovery`] tells).

mod directory;
mod error;
mod extents;
mod inodes;
mod walk;
mod xattrs;

pub use error::ReadError;

use super::checksum::Checksum;
use super::format::{feature, index};
use super::superblock::{self, MAGIC, OFFSET, SIZE, Stored};
use crate::io::ReadAt;
use crate::tree::Timestamp;
use std::sync::Arc;

/// Features that change what bytes mean and that this reader follows.
const KNOWN_INCOMPAT: u32 = feature::FILETYPE
    | feature::RECOVER
    | feature::META_BG
    | feature::EXTENTS
    | feature::SIXTY_FOUR_BIT
    | feature::FLEX_BG
    | feature::CSUM_SEED
    | feature::LARGE_DIR;

/// Names of features, for [`Facts::features`]: set (0 compat, 1 incompat, 2 ro_compat), bit, name as mke2fs
/// says it.
const FEATURE_NAMES: [(usize, u32, &str); 19] = [
    (0, feature::HAS_JOURNAL, "has_journal"),
    (0, feature::EXT_ATTR, "ext_attr"),
    (0, feature::RESIZE_INODE, "resize_inode"),
    (0, feature::DIR_INDEX, "dir_index"),
    (0, 0x1000, "orphan_file"),
    (1, feature::FILETYPE, "filetype"),
    (1, feature::RECOVER, "needs_recovery"),
    (1, feature::META_BG, "meta_bg"),
    (1, feature::EXTENTS, "extent"),
    (1, feature::SIXTY_FOUR_BIT, "64bit"),
    (1, feature::FLEX_BG, "flex_bg"),
    (1, feature::CSUM_SEED, "metadata_csum_seed"),
    (1, feature::LARGE_DIR, "large_dir"),
    (2, feature::SPARSE_SUPER, "sparse_super"),
    (2, feature::LARGE_FILE, "large_file"),
    (2, feature::HUGE_FILE, "huge_file"),
    (2, feature::DIR_NLINK, "dir_nlink"),
    (2, feature::EXTRA_ISIZE, "extra_isize"),
    (2, feature::METADATA_CSUM, "metadata_csum"),
];

/// Whether checksums are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksums {
    /// A structure whose checksum does not fit is damaged.
    Verify,
    /// Checksums are not looked at: to save what can be saved.
    Ignore,
}

/// What a file system says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// `s_uuid`.
    pub uuid: [u8; 16],
    /// `s_volume_name`, up to its first zero byte.
    pub label: String,
    /// Bytes of the file system.
    pub size: u64,
    /// Bytes of a block.
    pub block_size: u64,
    /// Number of blocks.
    pub blocks: u64,
    /// Free blocks, as the superblock says.
    pub free_blocks: u64,
    /// Number of inodes.
    pub inodes: u32,
    /// Free inodes, as the superblock says.
    pub free_inodes: u32,
    /// When it was made.
    pub created: Timestamp,
    /// Features by mke2fs' names.
    pub features: Vec<&'static str>,
    /// True when the journal holds changes that are not in their places yet.
    pub needs_recovery: bool,
}

/// An ext4 file system in a source of bytes, from offset 0.
#[derive(Debug, Clone)]
pub struct FileSystem {
    source: Arc<dyn ReadAt>,
    stored: Stored,
    verify: bool,
    block_size: u64,
    size: u64,
}

impl FileSystem {
    /// Opens and verifies the superblock; everything read later is verified, too.
    ///
    /// # Errors
    /// [`ReadError`] when the source cannot be read, is no ext4, is cut off or uses unknown features.
    pub fn open(source: Arc<dyn ReadAt>) -> Result<Self, ReadError> {
        Self::open_with(source, Checksums::Verify)
    }

    /// As [`FileSystem::open`], with a word on checksums.
    ///
    /// # Errors
    /// As [`FileSystem::open`].
    pub fn open_with(source: Arc<dyn ReadAt>, checksums: Checksums) -> Result<Self, ReadError> {
        let mut bytes = [0; SIZE];
        let fault = |offset| move |source| ReadError::Source { offset, source };
        source.read_exact_at(&mut bytes, OFFSET).map_err(fault(OFFSET))?;
        let stored = Stored::decode(&bytes);
        if stored.magic != MAGIC {
            return Err(ReadError::NotExt4);
        }
        let summed = stored.ro_compat & feature::METADATA_CSUM != 0;
        let verify = summed && checksums == Checksums::Verify;
        if verify && !superblock::is_sealed(&bytes) {
            return Err(ReadError::Corrupt { what: "superblock", at: 0 });
        }
        if stored.incompat & !KNOWN_INCOMPAT != 0 {
            return Err(ReadError::Unsupported("a feature that changes the format"));
        }
        if stored.incompat & feature::FILETYPE == 0 {
            return Err(ReadError::Unsupported("directories without file types"));
        }
        let (block_size, size) = judge(&stored).ok_or(ReadError::Corrupt { what: "superblock", at: 0 })?;
        let given = source.size().map_err(fault(0))?;
        if size > given {
            return Err(ReadError::CutOff { size, given });
        }
        Ok(Self { source, stored, verify, block_size, size })
    }

    /// What the superblock says.
    pub fn facts(&self) -> Facts {
        let stored = &self.stored;
        let sets = [stored.compat, stored.incompat, stored.ro_compat];
        let label = stored.label.split(|byte| *byte == 0).next().unwrap_or_default();
        Facts {
            uuid: stored.uuid,
            label: String::from_utf8_lossy(label).into_owned(),
            size: self.size,
            block_size: self.block_size,
            blocks: stored.blocks,
            free_blocks: stored.free_blocks,
            inodes: stored.inodes,
            free_inodes: stored.free_inodes,
            created: stored.created.get(),
            features: FEATURE_NAMES
                .iter()
                .filter(|(set, bit, _)| sets[*set] & bit != 0)
                .map(|(_, _, name)| *name)
                .collect(),
            needs_recovery: stored.incompat & feature::RECOVER != 0,
        }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), ReadError> {
        self.source.read_exact_at(buf, offset).map_err(|source| ReadError::Source { offset, source })
    }

    /// A whole block; `what` names it when the number makes no sense.
    fn read_block(&self, block: u64, what: &'static str) -> Result<Vec<u8>, ReadError> {
        if block == 0 || block >= self.stored.blocks {
            return Err(ReadError::Corrupt { what, at: block });
        }
        let mut bytes = vec![0; index(self.block_size)];
        self.read_at(&mut bytes, block * self.block_size)?;
        Ok(bytes)
    }

    fn seed(&self) -> Checksum {
        self.stored.checksum_seed
    }
}

/// Bytes of a block and of all blocks, when the superblock's numbers are possible.
fn judge(stored: &Stored) -> Option<(u64, u64)> {
    // 64 KiB is the largest block (superblock.rst, `s_log_block_size`).
    let block_size = 1024u64.checked_shl(stored.log_block_size).filter(|_| stored.log_block_size <= 6)?;
    let bits = block_size * 8;
    let size = stored.blocks.checked_mul(block_size)?;
    let inode_size = u64::from(stored.inode_size);
    let descriptor_size = u64::from(stored.descriptor_size);
    let possible = (1..=bits).contains(&u64::from(stored.blocks_per_group))
        && (1..=bits).contains(&u64::from(stored.inodes_per_group))
        && stored.inode_size.is_power_of_two()
        && (128..=block_size).contains(&inode_size)
        && stored.descriptor_size.is_power_of_two()
        && (32..=block_size).contains(&descriptor_size)
        && stored.first_data_block <= 1
        && stored.blocks > u64::from(stored.first_data_block)
        && stored.blocks < 1 << 48;
    let groups = stored.blocks.div_ceil(u64::from(stored.blocks_per_group).max(1));
    // Group numbers have 32 bits (checksums.rst takes them in so).
    let possible = possible && groups <= u64::from(u32::MAX);
    (possible && u64::from(stored.inodes) <= groups * u64::from(stored.inodes_per_group))
        .then_some((block_size, size))
}
