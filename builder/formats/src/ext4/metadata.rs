//! What belongs to no file: superblocks, descriptors, bitmaps, reserved descriptor blocks.

use super::error::Error;
use super::format::{BLOCK, BLOCK_BYTES, BLOCKS_PER_GROUP, index, ino, low32};
use super::group::{BLOCK_UNINIT, Descriptor, INODE_UNINIT, INODE_ZEROED, set_bits};
use super::inventory::Body;
use super::layout::{Run, has_super};
use super::options::Summary;
use super::resize;
use super::sink::Sink;
use super::superblock;
use super::write::Writer;
use crate::io::WriteAt;

impl Writer<'_, '_> {
    /// Superblocks, descriptors, bitmaps, and the blocks of journal and resize inode.
    pub(super) fn write_metadata<W: WriteAt + ?Sized>(
        &self,
        sink: &mut Sink<'_, W>,
    ) -> Result<Summary, Error> {
        let layout = &self.places.layout;
        let seed = self.options.checksum_seed();
        let used = layout.used(self.places.taken);
        let (mut descriptors, mut free_blocks) = (Vec::new(), 0);
        let mut runs = used.as_slice();
        for group in 0..layout.groups {
            let descriptor = self.bitmaps(group, &mut runs, sink)?;
            free_blocks += u64::from(descriptor.free_blocks);
            descriptors.extend_from_slice(&descriptor.encode(group, seed));
        }
        let inodes = layout.inodes_per_group * layout.groups;
        let free_inodes = inodes - self.last_inode();
        let journal = self.journal_inode();
        let fields = superblock::Fields {
            inodes,
            blocks: layout.blocks,
            free_blocks,
            free_inodes,
            inodes_per_group: layout.inodes_per_group,
            // Bounded by the addresses of one block.
            reserved_descriptor_blocks: u16::try_from(layout.reserved_descriptor_blocks).unwrap_or(0),
            uuid: self.options.uuid,
            hash_seed: self.options.hash_seed,
            label: self.options.label_bytes(),
            created: self.inventory.created,
            checksum_seed: seed,
            journal_block: journal.block,
            journal_size: journal.size,
        };
        for group in (0..layout.groups).filter(|group| has_super(*group)) {
            let start = u64::from(group) * BLOCKS_PER_GROUP * BLOCK_BYTES;
            let offset = if group == 0 { superblock::OFFSET } else { 0 };
            sink.put(start + offset, &fields.encode(group))?;
            sink.put(start + BLOCK_BYTES, &descriptors)?;
        }
        for at in 0..layout.reserved_descriptor_blocks {
            let offset = (1 + layout.descriptor_blocks + at) * BLOCK_BYTES;
            sink.put(offset, &resize::reserved_block(layout, at)[..])?;
        }
        Ok(Summary {
            size: layout.blocks * BLOCK_BYTES,
            free_blocks,
            inodes,
            free_inodes,
            journal_blocks: low32(self.places.journal.blocks),
        })
    }

    /// The highest inode in use: inodes are used from 1 on without holes.
    pub(super) fn last_inode(&self) -> u32 {
        low32(self.inventory.inodes())
    }

    /// Writes the bitmaps of `group` where it has something in use; takes its part off `runs`.
    fn bitmaps<W: WriteAt + ?Sized>(
        &self,
        group: u32,
        runs: &mut &[Run],
        sink: &mut Sink<'_, W>,
    ) -> Result<Descriptor, Error> {
        let layout = &self.places.layout;
        let seed = self.options.checksum_seed();
        let (own, tables) = (layout.group(group), layout.tables[group as usize]);
        let mut bitmap = [0; BLOCK];
        let mut used = 0;
        while let Some((run, rest)) = runs.split_first() {
            let (start, end) = (run.start.max(own.start), run.end.min(own.end));
            if start < end {
                set_bits(&mut bitmap, index(start - own.start), index(end - own.start));
                used += end - start;
            }
            if run.end > own.end {
                break;
            }
            *runs = rest;
        }
        let per_group = layout.inodes_per_group;
        let inodes = self.last_inode().saturating_sub(group * per_group).min(per_group);
        let mut descriptor = Descriptor {
            block_bitmap: tables.block_bitmap,
            inode_bitmap: tables.inode_bitmap,
            inode_table: tables.inode_table,
            free_blocks: low32(own.end - own.start - used),
            free_inodes: per_group - inodes,
            directories: self.directories(group),
            flags: INODE_ZEROED,
            unused_inodes: per_group - inodes,
            ..Descriptor::default()
        };
        // An uninitialised bitmap stands for the superblock copy alone; the last group's needs its padding.
        if used == layout.super_blocks(group) && group + 1 < layout.groups {
            descriptor.flags |= BLOCK_UNINIT;
        } else {
            set_bits(&mut bitmap, index(own.end - own.start), BLOCK * 8);
            descriptor.block_bitmap_sum = seed.with(&bitmap).0;
            sink.put(tables.block_bitmap * BLOCK_BYTES, &bitmap)?;
        }
        if inodes == 0 {
            descriptor.flags |= INODE_UNINIT;
        } else {
            bitmap.fill(0);
            set_bits(&mut bitmap, 0, inodes as usize);
            set_bits(&mut bitmap, per_group as usize, BLOCK * 8);
            descriptor.inode_bitmap_sum = seed.with(&bitmap[..per_group as usize / 8]).0;
            sink.put(tables.inode_bitmap * BLOCK_BYTES, &bitmap)?;
        }
        Ok(descriptor)
    }

    /// Directories whose inodes lie in `group`.
    fn directories(&self, group: u32) -> u32 {
        let per_group = self.places.layout.inodes_per_group;
        let (first, end) = (group * per_group + 1, (group + 1) * per_group + 1);
        let nodes = &self.inventory.nodes;
        let root = u32::from(group == 0);
        // Node n has inode n + 10 (the root apart).
        let from = first.saturating_sub(ino::LOST_FOUND - 1).max(1) as usize;
        let to = end.saturating_sub(ino::LOST_FOUND - 1).max(1) as usize;
        let part = &nodes[from.min(nodes.len())..to.min(nodes.len())];
        root + low32(part.iter().filter(|node| matches!(node.body, Body::Directory(_))).count() as u64)
    }
}
