//! The names in a directory. Index blocks of a hash tree look like blocks of free entries, so that a walk
//! over all blocks in order sees every name once.

use super::super::format::{get16, get32, index};
use super::super::inode::{FLAG_INDEX, mode};
use super::extents::Budget;
use super::inodes::Found;
use super::{FileSystem, ReadError};

/// Bytes of the pretended entry that holds a leaf's checksum, and its file type.
const TAIL_SIZE: usize = 12;
const TAIL_TYPE: u8 = 0xDE;
/// `file_type` of a directory.
const TYPE_DIRECTORY: u8 = 2;

/// Bytes that a name takes beside itself.
const NAME_COST: usize = 64;

/// A name, its inode, and whether the entry says that this is a directory.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) name: Box<[u8]>,
    pub(super) inode: u32,
    pub(super) is_directory: bool,
}

impl FileSystem {
    /// All names of a directory but `.` and `..`.
    pub(super) fn names(&self, found: &Found, budget: &mut Budget) -> Result<Vec<Name>, ReadError> {
        if found.inode.mode & mode::TYPE != mode::DIRECTORY {
            return Err(corrupt(found));
        }
        let mut names: Vec<Name> = Vec::new();
        let mut counted = 0;
        let size = index(self.block_size);
        let mut block = vec![0; size];
        for piece in self.pieces(found, budget)? {
            for at in (0..piece.len).step_by(size) {
                if piece.at + at >= found.inode.size {
                    break;
                }
                self.read_at(&mut block, piece.start + at)?;
                if self.verify && !self.is_intact(&block, found, piece.at + at) {
                    return Err(corrupt(found));
                }
                take(&block, found, &mut names)?;
                let fresh = &names[counted..];
                let bytes: usize = fresh.iter().map(|name| NAME_COST + name.name.len()).sum();
                budget.spend(0, bytes as u64, found.number)?;
                counted = names.len();
            }
        }
        Ok(names)
    }

    /// The checksum of a leaf in its last 12 bytes, or that of an index block in its last 4.
    fn is_intact(&self, block: &[u8], found: &Found, at: u64) -> bool {
        let seed = self.seed().of_inode(found.number, found.inode.generation);
        let tail = block.len() - TAIL_SIZE;
        let is_tail = get32(block, tail) == 0
            && usize::from(get16(block, tail + 4)) == TAIL_SIZE
            && block[tail + 6] == 0
            && block[tail + 7] == TAIL_TYPE;
        let is_node = get32(block, 0) == 0 && rec_len(block, 0) == block.len();
        let count_at = match (found.inode.flags & FLAG_INDEX != 0, at) {
            (true, 0) => 0x20,
            (true, _) if is_node && !is_tail => 8,
            _ => return is_tail && seed.with(&block[..tail]).0 == get32(block, tail + 8),
        };
        let limit = count_at + usize::from(get16(block, count_at)) * 8;
        let used = count_at + usize::from(get16(block, count_at + 2)) * 8;
        if used > limit || limit + 8 > block.len() {
            return false;
        }
        seed.with(&block[..used]).with(&block[limit..limit + 4]).with(&[0; 4]).0 == get32(block, limit + 4)
    }
}

fn corrupt(found: &Found) -> ReadError {
    ReadError::Corrupt { what: "directory with inode", at: u64::from(found.number) }
}

/// `rec_len`; a block of 64 KiB is longer than the field can say (`ext4_rec_len_from_disk`).
fn rec_len(block: &[u8], at: usize) -> usize {
    match usize::from(get16(block, at + 4)) {
        0 | 65535 if block.len() == 65536 => 65536,
        len => len,
    }
}

/// Appends the names of one block.
fn take(block: &[u8], found: &Found, names: &mut Vec<Name>) -> Result<(), ReadError> {
    let mut at = 0;
    while at < block.len() {
        let len = rec_len(block, at);
        if len < 8 || !len.is_multiple_of(4) || len > block.len() - at {
            return Err(corrupt(found));
        }
        let inode = get32(block, at);
        if inode != 0 {
            let name =
                block[at + 8..at + len].get(..usize::from(block[at + 6])).ok_or_else(|| corrupt(found))?;
            if name.is_empty() || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
                return Err(corrupt(found));
            }
            if name != b"." && name != b".." {
                let is_directory = block[at + 7] == TYPE_DIRECTORY;
                names.push(Name { name: name.into(), inode, is_directory });
            }
        }
        at += len;
    }
    Ok(())
}
