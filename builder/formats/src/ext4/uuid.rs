//! Another UUID for a file system that is already written: with `metadata_csum_seed` only the superblock and
//! its copies change, so that one root image serves many nodes.

use super::error::Error;
use super::format::{BLOCK_BYTES, BLOCKS_PER_GROUP, feature, low32};
use super::layout::has_super;
use super::read::ReadError;
use super::superblock::{self, MAGIC, OFFSET, SIZE, Stored};
use crate::io::{ReadAt, WriteAt};

/// Bytes to be written over a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UuidPatch {
    /// Bytes from the start of the file system.
    pub offset: u64,
    /// A superblock.
    pub bytes: [u8; SIZE],
}

/// What has to be written over the file system in `source` (4 KiB blocks, `metadata_csum_seed`: as
/// [`write`](super::write()) makes it) to give it `uuid`.
///
/// # Errors
/// [`Error::Patch`] when a superblock cannot be read, is broken, or lacks those features.
pub fn uuid_patches(source: &dyn ReadAt, uuid: [u8; 16]) -> Result<Vec<UuidPatch>, Error> {
    let primary = patch(source, OFFSET, uuid)?;
    let stored = Stored::decode(&primary.bytes);
    if stored.incompat & feature::CSUM_SEED == 0 || stored.ro_compat & feature::METADATA_CSUM == 0 {
        return Err(ReadError::Unsupported("a file system without metadata_csum_seed").into());
    }
    if stored.log_block_size != 2 || u64::from(stored.blocks_per_group) != BLOCKS_PER_GROUP {
        return Err(ReadError::Unsupported("blocks of another size than 4096 bytes").into());
    }
    let given = source.size().map_err(|source| ReadError::Source { offset: 0, source })?;
    let size = stored.blocks.saturating_mul(BLOCK_BYTES);
    if size > given {
        return Err(ReadError::CutOff { size, given }.into());
    }
    let groups = low32(stored.blocks.div_ceil(BLOCKS_PER_GROUP).min(u64::from(u32::MAX)));
    let mut patches = vec![primary];
    for group in (1..groups).filter(|group| has_super(*group)) {
        patches.push(patch(source, u64::from(group) * BLOCKS_PER_GROUP * BLOCK_BYTES, uuid)?);
    }
    Ok(patches)
}

/// Gives the file system at offset 0 of `target`, whose bytes `source` reads, another UUID.
///
/// # Errors
/// As [`uuid_patches`], and [`Error::Target`] when writing fails.
pub fn set_uuid<W: WriteAt + ?Sized>(
    source: &dyn ReadAt,
    target: &mut W,
    uuid: [u8; 16],
) -> Result<(), Error> {
    for UuidPatch { offset, bytes } in uuid_patches(source, uuid)? {
        target.write_all_at(&bytes, offset).map_err(|source| Error::Target { offset, source })?;
    }
    Ok(())
}

fn patch(source: &dyn ReadAt, offset: u64, uuid: [u8; 16]) -> Result<UuidPatch, Error> {
    let mut bytes = [0; SIZE];
    source.read_exact_at(&mut bytes, offset).map_err(|source| ReadError::Source { offset, source })?;
    if Stored::decode(&bytes).magic != MAGIC || !superblock::is_sealed(&bytes) {
        return Err(ReadError::Corrupt { what: "superblock", at: offset }.into());
    }
    superblock::replace_uuid(&mut bytes, uuid);
    Ok(UuidPatch { offset, bytes })
}
