//! What the writer is told beside the tree, and what it tells.

use super::checksum::Checksum;
use super::error::Error;
use super::format::{BLOCK_BYTES, MAX_BLOCKS, MAX_INODES, get32};
use super::journal;
use crate::tree::Timestamp;

/// How to write a file system.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes; a multiple of 4096. A rest too small for a group of its own stays unused.
    pub size: u64,
    /// `s_uuid`, as bytes in the order that people read.
    pub uuid: [u8; 16],
    /// `s_hash_seed`. Checksums are seeded by it, too, and not by the UUID.
    pub hash_seed: [u8; 16],
    /// `s_volume_name`, at most 16 bytes.
    pub label: String,
    /// Creation time of the file system and of all inodes; time of lost+found and the root directory where
    /// the tree has none.
    pub created: Timestamp,
    /// Inodes at least; `None` for one per 16 KiB, or what the tree needs where that is more.
    pub inodes: Option<u32>,
    /// Blocks of the journal (4096 bytes each); `None` for mke2fs' steps.
    pub journal_blocks: Option<u32>,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Bytes of the file system; up to one group less than asked for.
    pub size: u64,
    /// Blocks of 4096 bytes that are free.
    pub free_blocks: u64,
    /// Inodes, reserved ones included.
    pub inodes: u32,
    /// Inodes that are free.
    pub free_inodes: u32,
    /// Blocks of the journal.
    pub journal_blocks: u32,
}

impl Options {
    /// Options with no label, default journal and inodes.
    pub fn new(size: u64, uuid: [u8; 16], hash_seed: [u8; 16], created: Timestamp) -> Self {
        Self { size, uuid, hash_seed, label: String::new(), created, inodes: None, journal_blocks: None }
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        if !self.size.is_multiple_of(BLOCK_BYTES) || self.size / BLOCK_BYTES > MAX_BLOCKS {
            return Err(Error::BadSize { given: self.size });
        }
        if self.label.len() > 16 || self.label.contains('\0') {
            return Err(Error::BadLabel { label: self.label.clone() });
        }
        if let Some(given) = self.inodes.filter(|given| *given > MAX_INODES) {
            return Err(Error::TooManyInodes { given });
        }
        match self.journal_blocks {
            Some(given) if !(journal::MIN_BLOCKS..=journal::MAX_BLOCKS).contains(&given) => {
                Err(Error::BadJournal { given })
            }
            _ => Ok(()),
        }
    }

    /// The label with zeros behind it.
    pub(super) fn label_bytes(&self) -> [u8; 16] {
        let mut out = [0; 16];
        out.iter_mut().zip(self.label.bytes()).for_each(|(to, from)| *to = from);
        out
    }

    /// The hash seed as the four words that the hash starts with.
    pub(super) fn hash_words(&self) -> [u32; 4] {
        [0, 4, 8, 12].map(|at| get32(&self.hash_seed, at))
    }

    /// `s_checksum_seed`: from the hash seed, so that it survives a change of UUID.
    pub(super) fn checksum_seed(&self) -> Checksum {
        Checksum::START.with(&self.hash_seed)
    }
}
