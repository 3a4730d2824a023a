//! Where a file's blocks lie, and reading through that.

use super::super::extent::{ENTRY_SIZE, MAGIC, MAX_LEN};
use super::super::format::{get16, get32, index, join};
use super::super::inode::{FLAG_EXTENTS, FLAG_INLINE_DATA};
use super::inodes::Found;
use super::{FileSystem, ReadError};
use crate::io::ReadAt;
use std::io::{Error, ErrorKind, Result as IoResult};
use std::sync::Arc;

/// Levels of an extent tree at most (ifork.rst, `eh_depth`).
const MAX_DEPTH: u16 = 5;

/// Bytes that one walk may keep of names, attributes and pieces of files: honest roots need a tenth.
const KEPT_MAX: u64 = 160 << 20;
/// Bytes that a piece takes.
const PIECE_COST: u64 = 24;

/// A run of a file's bytes; what lies between runs is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// First byte within the file.
    pub(super) at: u64,
    /// First byte of the source.
    pub(super) start: u64,
    /// Number of bytes.
    pub(super) len: u64,
}

/// What may still be read and kept: hostile bytes can name one block in many places, honest ones name each
/// once, so that everything together is bounded by the file system's size.
#[derive(Debug)]
pub(super) struct Budget {
    /// Blocks of content that may still be named.
    pub(super) blocks: u64,
    /// Bytes of names and attributes that may still be kept.
    pub(super) bytes: u64,
}

impl Budget {
    pub(super) fn spend(&mut self, blocks: u64, bytes: u64, at: u32) -> Result<(), ReadError> {
        let left = (self.blocks.checked_sub(blocks), self.bytes.checked_sub(bytes));
        let (Some(blocks), Some(bytes)) = left else {
            return Err(ReadError::Corrupt {
                what: "more content than there is space, seen at inode",
                at: u64::from(at),
            });
        };
        (self.blocks, self.bytes) = (blocks, bytes);
        Ok(())
    }
}

impl FileSystem {
    /// A budget for one walk.
    pub(super) fn budget(&self) -> Budget {
        // Paths and shared attributes can outgrow the blocks that hold them, and what they take in memory is more still.
        Budget { blocks: self.stored.blocks, bytes: KEPT_MAX }
    }

    /// The runs of a file, in order, neighbours joined.
    pub(super) fn pieces(&self, found: &Found, budget: &mut Budget) -> Result<Vec<Piece>, ReadError> {
        let mut walk = Walk { fs: self, found, budget, pieces: Vec::new(), next: 0 };
        if found.inode.flags & FLAG_INLINE_DATA != 0 {
            return Err(ReadError::Unsupported("content inside the inode (inline_data)"));
        }
        if found.inode.flags & FLAG_EXTENTS == 0 {
            if found.inode.block.iter().any(|byte| *byte != 0) {
                return Err(ReadError::Unsupported("a file with an old block map"));
            }
            return Ok(Vec::new());
        }
        let depth = get16(&found.inode.block, 6);
        if depth > MAX_DEPTH {
            return Err(walk.corrupt());
        }
        walk.node(&found.inode.block, depth)?;
        Ok(walk.pieces)
    }
}

struct Walk<'a> {
    fs: &'a FileSystem,
    found: &'a Found,
    budget: &'a mut Budget,
    pieces: Vec<Piece>,
    /// First block within the file that the next extent may start at: this only grows, which ends the walk.
    next: u64,
}

impl Walk<'_> {
    fn corrupt(&self) -> ReadError {
        ReadError::Corrupt { what: "extent tree of inode", at: u64::from(self.found.number) }
    }

    /// One node; recursion ends at [`MAX_DEPTH`], as `depth` falls by one.
    fn node(&mut self, area: &[u8], depth: u16) -> Result<(), ReadError> {
        let entries = usize::from(get16(area, 2));
        let room = usize::from(get16(area, 4));
        if get16(area, 0) != MAGIC
            || get16(area, 6) != depth
            || entries > room
            || room > (area.len() - ENTRY_SIZE) / ENTRY_SIZE
        {
            return Err(self.corrupt());
        }
        for entry in area[ENTRY_SIZE..].chunks_exact(ENTRY_SIZE).take(entries) {
            if depth == 0 {
                self.extent(entry)?;
            } else {
                self.child(entry, depth - 1)?;
            }
        }
        Ok(())
    }

    fn child(&mut self, entry: &[u8], depth: u16) -> Result<(), ReadError> {
        let block = join(u32::from(get16(entry, 8)), get32(entry, 4));
        let bytes = self.fs.read_block(block, "extent block")?;
        // The checksum follows the last entry that would fit (`struct ext4_extent_tail`).
        let tail = ENTRY_SIZE * (1 + usize::from(get16(&bytes, 4)));
        if tail + 4 > bytes.len() || get16(&bytes, 2) == 0 {
            return Err(self.corrupt());
        }
        if self.fs.verify {
            let seed = self.fs.seed().of_inode(self.found.number, self.found.inode.generation);
            if seed.with(&bytes[..tail]).0 != get32(&bytes, tail) {
                return Err(ReadError::Corrupt { what: "extent block", at: block });
            }
        }
        self.node(&bytes[..tail], depth)
    }

    fn extent(&mut self, entry: &[u8]) -> Result<(), ReadError> {
        let logical = u64::from(get32(entry, 0));
        let stored = u64::from(get16(entry, 4));
        // A longer one is allocated, but reads as zeros (ifork.rst, `ee_len`).
        let (len, written) = if stored > MAX_LEN { (stored - MAX_LEN, false) } else { (stored, true) };
        let start = join(u32::from(get16(entry, 6)), get32(entry, 8));
        let blocks = self.fs.stored.blocks;
        if len == 0 || logical < self.next || start == 0 || start >= blocks || len > blocks - start {
            return Err(self.corrupt());
        }
        self.next = logical + len;
        self.budget.spend(len, PIECE_COST, self.found.number)?;
        if !written {
            return Ok(());
        }
        let size = self.fs.block_size;
        let piece = Piece { at: logical * size, start: start * size, len: len * size };
        match self.pieces.last_mut() {
            Some(last) if last.at + last.len == piece.at && last.start + last.len == piece.start => {
                last.len += piece.len;
            }
            _ => self.pieces.push(piece),
        }
        Ok(())
    }
}

/// A file in several runs, as one source.
#[derive(Debug)]
pub(super) struct Pieces {
    pub(super) source: Arc<dyn ReadAt>,
    pub(super) pieces: Vec<Piece>,
    pub(super) len: u64,
}

impl ReadAt for Pieces {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> IoResult<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.len);
        let end = end.ok_or_else(|| Error::from(ErrorKind::UnexpectedEof))?;
        let first = self.pieces.partition_point(|piece| piece.at + piece.len <= offset);
        let (mut at, mut rest) = (offset, buf);
        for piece in self.pieces[first..].iter().take_while(|piece| piece.at < end) {
            let (hole, more) = rest.split_at_mut(index(piece.at.saturating_sub(at)));
            hole.fill(0);
            at += hole.len() as u64;
            let within = at - piece.at;
            let (now, more) = more.split_at_mut(index((piece.len - within).min(end - at)));
            self.source.read_exact_at(now, piece.start + within)?;
            at += now.len() as u64;
            rest = more;
        }
        rest.fill(0);
        Ok(())
    }

    fn size(&self) -> IoResult<u64> {
        Ok(self.len)
    }
}
