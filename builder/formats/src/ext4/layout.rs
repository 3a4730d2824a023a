//! Where everything lies that does not belong to a file: superblock copies, descriptors, bitmaps, inode
//! tables (the kernel's ext4 pages, blockgroup.rst), and the free blocks between.

use super::extent::{Extent, MAX_LEN};
use super::format::{
    ADDRESSES_PER_BLOCK, BLOCKS_PER_GROUP, DESCRIPTORS_PER_BLOCK, GROUPS_PER_FLEX, INODES_PER_BLOCK,
    MAX_BLOCKS, low32,
};

/// Blocks `start` to `end` (not with it).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Run {
    pub(super) start: u64,
    pub(super) end: u64,
}

/// Free blocks between metadata: `run` and how many free blocks come before it.
#[derive(Debug)]
struct Gap {
    run: Run,
    before: u64,
}

/// A group's own blocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tables {
    pub(super) block_bitmap: u64,
    pub(super) inode_bitmap: u64,
    pub(super) inode_table: u64,
}

/// A file system without files. Free blocks are numbered through from 0 ("slots"), so that a file of n
/// blocks takes n slots, however many pieces that makes on disk.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) blocks: u64,
    /// The size that has to be reached for one group more, when a last group was cut off.
    next_blocks: u64,
    pub(super) groups: u32,
    pub(super) inodes_per_group: u32,
    pub(super) descriptor_blocks: u64,
    pub(super) reserved_descriptor_blocks: u64,
    pub(super) tables: Vec<Tables>,
    fixed: Vec<Run>,
    gaps: Vec<Gap>,
}

/// More blocks are needed, at least this many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Short(pub(super) u64);

/// True for groups that hold a copy of the superblock with `sparse_super`: 0, 1 and the powers of 3, 5, 7.
pub(super) fn has_super(group: u32) -> bool {
    let power_of = |base: u32| {
        let mut rest = group;
        while rest.is_multiple_of(base) {
            rest /= base;
        }
        rest == 1
    };
    group <= 1 || power_of(3) || power_of(5) || power_of(7)
}

impl Layout {
    /// A file system of `blocks` (fewer, when the last group would be too small to be of use) with at least
    /// `inodes`.
    pub(super) fn new(blocks: u64, inodes: u64) -> Result<Self, Short> {
        let groups = blocks.div_ceil(BLOCKS_PER_GROUP).max(1);
        let most = groups * BLOCKS_PER_GROUP;
        if inodes > most {
            return Err(Short((inodes.div_ceil(BLOCKS_PER_GROUP) - 1) * BLOCKS_PER_GROUP + 1 - blocks));
        }
        let inodes_per_group = low32(inodes.div_ceil(groups)).next_multiple_of(INODES_PER_BLOCK);
        let descriptor_blocks = groups.div_ceil(DESCRIPTORS_PER_BLOCK);
        // mke2fs' default: room to grow to 1024 times the size.
        let grown = blocks.saturating_mul(1024).min(MAX_BLOCKS - 1);
        let reserved_descriptor_blocks = grown
            .div_ceil(BLOCKS_PER_GROUP)
            .div_ceil(DESCRIPTORS_PER_BLOCK)
            .saturating_sub(descriptor_blocks)
            .min(ADDRESSES_PER_BLOCK as u64);
        let mut layout = Self {
            blocks,
            next_blocks: 0,
            groups: low32(groups),
            inodes_per_group,
            descriptor_blocks,
            reserved_descriptor_blocks,
            tables: Vec::new(),
            fixed: Vec::new(),
            gaps: Vec::new(),
        };
        let last = layout.groups - 1;
        let rest = blocks % BLOCKS_PER_GROUP;
        // mke2fs' rule for the last group (`ext2fs_initialize`): its own metadata and 50 blocks.
        let least = layout.super_blocks(last) + 2 + u64::from(layout.table_blocks()) + 50;
        if rest > 0 && rest < least {
            if groups == 1 {
                return Err(Short(least - rest));
            }
            return match Self::new(blocks - rest, inodes) {
                Err(Short(short)) => Err(Short(short.max(least) - rest)),
                Ok(layout) => Ok(Self { next_blocks: blocks - rest + least, ..layout }),
            };
        }
        layout.place_tables()?;
        layout.find_gaps();
        Ok(layout)
    }

    /// Blocks of one group's inode table.
    pub(super) fn table_blocks(&self) -> u32 {
        self.inodes_per_group / INODES_PER_BLOCK
    }

    /// Blocks at the start of `group` that hold superblock, descriptors and reserved descriptors.
    pub(super) fn super_blocks(&self, group: u32) -> u64 {
        if has_super(group) { 1 + self.descriptor_blocks + self.reserved_descriptor_blocks } else { 0 }
    }

    /// The blocks of `group`.
    pub(super) fn group(&self, group: u32) -> Run {
        let start = u64::from(group) * BLOCKS_PER_GROUP;
        Run { start, end: (start + BLOCKS_PER_GROUP).min(self.blocks) }
    }

    /// With `flex_bg`, 16 groups' bitmaps and tables lie together at the start of the first of them.
    fn place_tables(&mut self) -> Result<(), Short> {
        let mut cursor = 0;
        let mut tables = Vec::with_capacity(self.groups as usize);
        let mut fixed = Vec::new();
        for first in (0..self.groups).step_by(GROUPS_PER_FLEX as usize) {
            let count = GROUPS_PER_FLEX.min(self.groups - first);
            cursor = self.group(first).start.max(cursor);
            let block_bitmaps = self.place(&mut cursor, u64::from(count))?;
            let inode_bitmaps = self.place(&mut cursor, u64::from(count))?;
            fixed.extend([block_bitmaps, inode_bitmaps]);
            for at in 0..u64::from(count) {
                let table = self.place(&mut cursor, u64::from(self.table_blocks()))?;
                fixed.push(table);
                tables.push(Tables {
                    block_bitmap: block_bitmaps.start + at,
                    inode_bitmap: inode_bitmaps.start + at,
                    inode_table: table.start,
                });
            }
        }
        for group in (0..self.groups).filter(|group| has_super(*group)) {
            let start = self.group(group).start;
            fixed.push(Run { start, end: start + self.super_blocks(group) });
        }
        fixed.sort_unstable();
        self.tables = tables;
        self.fixed = fixed;
        Ok(())
    }

    /// The next `len` blocks from `cursor` on that touch no superblock copy.
    fn place(&self, cursor: &mut u64, len: u64) -> Result<Run, Short> {
        let mut start = *cursor;
        let mut group = low32(start / BLOCKS_PER_GROUP);
        while u64::from(group) * BLOCKS_PER_GROUP < start + len {
            let end = u64::from(group) * BLOCKS_PER_GROUP + self.super_blocks(group);
            if has_super(group) && start < end {
                start = end;
            }
            group += 1;
        }
        let end = start + len;
        if end > self.blocks {
            return Err(Short(end - self.blocks));
        }
        *cursor = end;
        Ok(Run { start, end })
    }

    fn find_gaps(&mut self) {
        let (mut at, mut before) = (0, 0);
        let end = Run { start: self.blocks, end: self.blocks };
        for run in self.fixed.iter().chain([&end]) {
            if run.start > at {
                self.gaps.push(Gap { run: Run { start: at, end: run.start }, before });
                before += run.start - at;
            }
            at = run.end;
        }
    }

    /// Number of slots.
    pub(super) fn slots(&self) -> u64 {
        self.gaps.last().map_or(0, |gap| gap.before + gap.run.end - gap.run.start)
    }

    /// How many blocks more than `asked` make room for `short` slots.
    pub(super) fn short(&self, asked: u64, short: u64) -> Short {
        Short((self.blocks + short).max(self.next_blocks).saturating_sub(asked).max(1))
    }

    /// The block of a slot.
    pub(super) fn block(&self, slot: u64) -> u64 {
        self.extents(slot, 1).first().map_or(0, |extent| extent.start)
    }

    /// The extents of a file that takes `len` slots from `slot` on.
    pub(super) fn extents(&self, slot: u64, len: u64) -> Vec<Extent> {
        let mut out = Vec::new();
        let mut done = 0;
        let first = self.gaps.partition_point(|gap| gap.before <= slot).saturating_sub(1);
        for gap in &self.gaps[first.min(self.gaps.len())..] {
            let mut start = gap.run.start + (slot + done).saturating_sub(gap.before);
            while start < gap.run.end && done < len {
                let piece = (gap.run.end - start).min(len - done).min(MAX_LEN);
                out.push(Extent { logical: low32(done), start, len: low32(piece) });
                start += piece;
                done += piece;
            }
            if done >= len {
                break;
            }
        }
        out
    }

    /// All blocks in use when the first `slots` are taken, sorted, not overlapping.
    pub(super) fn used(&self, slots: u64) -> Vec<Run> {
        let taken = self.gaps.iter().take_while(|gap| gap.before < slots).map(|gap| Run {
            start: gap.run.start,
            end: gap.run.end.min(gap.run.start + (slots - gap.before)),
        });
        let mut all: Vec<_> = self.fixed.iter().copied().chain(taken).collect();
        all.sort_unstable();
        let mut merged: Vec<Run> = Vec::new();
        for run in all {
            match merged.last_mut() {
                Some(last) if last.end == run.start => last.end = run.end,
                _ => merged.push(run),
            }
        }
        merged
    }
}
