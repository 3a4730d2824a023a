//! Writing: everything is placed first, then bytes go out in the order in which they lie.

use super::error::{Error, shown};
use super::extent;
use super::format::{
    BLOCK, BLOCK_BYTES, BLOCKS_PER_GROUP, INODE_SIZE, MAX_BLOCKS, SECTORS_PER_BLOCK, index, ino, low32,
};
use super::group::{BLOCK_UNINIT, Descriptor, INODE_UNINIT, INODE_ZEROED, set_bits};
use super::inode::{FLAG_EXTENTS, FLAG_INDEX, Inode, mode};
use super::inventory::{Body, FAST_SYMLINK, Inventory, Node, number};
use super::journal;
use super::layout::{Run, has_super};
use super::options::{Options, Summary};
use super::place::{Packing, Place, Places, ordered};
use super::resize;
use super::sink::Sink;
use super::superblock;
use super::xattr;
use crate::io::WriteAt;
use crate::tree::{Content, Timestamp, Tree};

/// Bytes of the smallest file system that takes `tree` with default journal and inodes, whatever the seed.
///
/// # Errors
/// What is wrong with the tree, as for [`write`].
pub fn minimum_size(tree: &Tree) -> Result<u64, Error> {
    let inventory = Inventory::new(tree, Timestamp::default())?;
    let options = Options::new(0, [0; 16], [0; 16], Timestamp::default());
    smallest(&inventory, Packing::Worst, &options)
}

/// The size at which placing succeeds, from `options.size` upwards.
fn smallest(inventory: &Inventory<'_>, packing: Packing, options: &Options) -> Result<u64, Error> {
    let mut blocks = options.size / BLOCK_BYTES;
    while blocks <= MAX_BLOCKS {
        match Places::new(inventory, blocks, packing, options) {
            Ok(_) => return Ok(blocks * BLOCK_BYTES),
            Err(short) => blocks += short.0,
        }
    }
    Err(Error::BadSize { given: blocks * BLOCK_BYTES })
}

/// Writes `tree` as a file system of `options.size` bytes from offset 0 of `target`, whose bytes there must
/// read as zeros. Parts that are zero are not written, but the target reaches its full size.
///
/// The root directory (0755) and lost+found (0700) are made where the tree has none. Times of access and
/// change are the modification time.
///
/// # Errors
/// Everything in the tree that ext4 cannot hold is refused before the first byte; after that only reading a
/// file's content and writing the target can fail.
pub fn write<W: WriteAt + ?Sized>(tree: &Tree, options: &Options, target: &mut W) -> Result<Summary, Error> {
    options.check()?;
    let mut inventory = Inventory::new(tree, options.created)?;
    inventory.arrange(options.hash_words())?;
    if let Some(given) = options.inodes.map(u64::from).filter(|given| *given < inventory.inodes()) {
        return Err(Error::TooFewInodes { needed: inventory.inodes(), given });
    }
    let Ok(places) = Places::new(&inventory, options.size / BLOCK_BYTES, Packing::Arranged, options) else {
        let needed = smallest(&inventory, Packing::Arranged, options)?;
        return Err(Error::TooSmall { needed, given: options.size });
    };
    let mut sink = Sink::new(target);
    sink.extend_to(options.size)?;
    let writer = Writer { inventory: &inventory, places: &places, options };
    let summary = writer.write_metadata(&mut sink)?;
    writer.write_inodes(&mut sink)?;
    writer.write_contents(&mut sink)?;
    sink.flush()?;
    Ok(summary)
}

/// A block of an extent tree and where it goes.
type TreeBlock = (u64, Box<[u8; BLOCK]>);

struct Writer<'a, 't> {
    inventory: &'a Inventory<'t>,
    places: &'a Places,
    options: &'a Options,
}

impl Writer<'_, '_> {
    /// Superblocks, descriptors, bitmaps, and the blocks of journal and resize inode.
    fn write_metadata<W: WriteAt + ?Sized>(&self, sink: &mut Sink<'_, W>) -> Result<Summary, Error> {
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
    fn last_inode(&self) -> u32 {
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

    /// The inode table's used part.
    fn write_inodes<W: WriteAt + ?Sized>(&self, sink: &mut Sink<'_, W>) -> Result<(), Error> {
        let reserved = [
            (1, Inode { mtime: self.inventory.created, created: self.inventory.created, ..Inode::default() }),
            (ino::JOURNAL, self.journal_inode()),
        ];
        self.write_inode(2, &self.node_inode(0), sink)?;
        for (number, inode) in reserved {
            self.write_inode(number, &inode, sink)?;
        }
        if let Some(map) = self.places.resize {
            let layout = &self.places.layout;
            let inode = resize::inode(layout, layout.block(map), self.inventory.created);
            self.write_inode(ino::RESIZE, &inode, sink)?;
        }
        for at in 1..self.inventory.nodes.len() {
            self.write_inode(number(at), &self.node_inode(at), sink)?;
        }
        Ok(())
    }

    fn write_inode<W: WriteAt + ?Sized>(
        &self,
        number: u32,
        inode: &Inode,
        sink: &mut Sink<'_, W>,
    ) -> Result<(), Error> {
        let layout = &self.places.layout;
        let (group, at) = ((number - 1) / layout.inodes_per_group, (number - 1) % layout.inodes_per_group);
        let table = layout.tables[group as usize].inode_table;
        let offset = table * BLOCK_BYTES + u64::from(at) * INODE_SIZE as u64;
        let xattrs = match number {
            ino::ROOT => Some(0),
            number => number.checked_sub(ino::LOST_FOUND - 1).filter(|at| *at > 0).map(|at| at as usize),
        };
        let xattrs = xattrs.map_or(&[][..], |at| &self.inventory.nodes[at].xattrs.inline);
        let mut bytes = [0; INODE_SIZE];
        inode.encode(&mut bytes, xattrs, self.options.checksum_seed().of_inode(number, 0));
        sink.put(offset, &bytes)
    }

    /// The extent tree of a place: the inode's part and the blocks outside with their numbers.
    fn extent_tree(&self, number: u32, place: &Place) -> ([u8; 60], Vec<TreeBlock>) {
        let layout = &self.places.layout;
        let extents = layout.extents(place.data, place.blocks);
        let blocks: Vec<u64> = (0..place.tree_blocks).map(|at| layout.block(place.tree + at)).collect();
        let (root, nodes) =
            extent::encode(&extents, &blocks, self.options.checksum_seed().of_inode(number, 0));
        (root, blocks.into_iter().zip(nodes).collect())
    }

    fn journal_inode(&self) -> Inode {
        let place = &self.places.journal;
        Inode {
            mode: mode::REGULAR | 0o600,
            links: 1,
            size: place.blocks * BLOCK_BYTES,
            sectors: (place.blocks + place.tree_blocks) * SECTORS_PER_BLOCK,
            flags: FLAG_EXTENTS,
            block: self.extent_tree(ino::JOURNAL, place).0,
            mtime: self.inventory.created,
            created: self.inventory.created,
            ..Inode::default()
        }
    }

    fn node_inode(&self, at: usize) -> Inode {
        let (node, place) = (&self.inventory.nodes[at], &self.places.nodes[at]);
        let (size, flags, block) = match &node.body {
            Body::Directory(directory) => {
                let flag = if directory.blocks() > 1 { FLAG_INDEX } else { 0 };
                (place.blocks * BLOCK_BYTES, FLAG_EXTENTS | flag, self.extent_tree(number(at), place).0)
            }
            Body::File(content) => (content.len(), FLAG_EXTENTS, self.extent_tree(number(at), place).0),
            Body::Symlink(target) if target.len() < FAST_SYMLINK => {
                let mut block = [0; 60];
                block[..target.len()].copy_from_slice(target);
                (target.len() as u64, 0, block)
            }
            Body::Symlink(target) => {
                (target.len() as u64, FLAG_EXTENTS, self.extent_tree(number(at), place).0)
            }
            Body::Special(_, block) => (0, 0, *block),
        };
        let xattr_block = place.xattrs.map(|slot| self.places.layout.block(slot));
        Inode {
            mode: node.body.mode() | node.meta.mode,
            uid: node.meta.uid,
            gid: node.meta.gid,
            size,
            links: node.link_count(),
            sectors: (place.blocks + place.tree_blocks + u64::from(xattr_block.is_some()))
                * SECTORS_PER_BLOCK,
            flags,
            block,
            xattr_block: xattr_block.unwrap_or(0),
            mtime: node.time,
            created: self.inventory.created,
            generation: 0,
        }
    }

    /// Journal, resize map, directories, links, files.
    fn write_contents<W: WriteAt + ?Sized>(&self, sink: &mut Sink<'_, W>) -> Result<(), Error> {
        let layout = &self.places.layout;
        let journal = &self.places.journal;
        let first = journal::superblock(low32(journal.blocks), self.options.hash_seed);
        sink.put(layout.block(journal.data) * BLOCK_BYTES, &first[..])?;
        for (block, bytes) in self.extent_tree(ino::JOURNAL, journal).1 {
            sink.put(block * BLOCK_BYTES, &bytes[..])?;
        }
        if let Some(map) = self.places.resize {
            sink.put(layout.block(map) * BLOCK_BYTES, &resize::map(layout)[..])?;
        }
        for (at, node) in ordered(&self.inventory.nodes) {
            self.write_content(at, node, sink)?;
        }
        Ok(())
    }

    fn write_content<W: WriteAt + ?Sized>(
        &self,
        at: usize,
        node: &Node<'_>,
        sink: &mut Sink<'_, W>,
    ) -> Result<(), Error> {
        let (layout, place) = (&self.places.layout, &self.places.nodes[at]);
        let seed = self.options.checksum_seed();
        if let (Some(slot), Some(block)) = (place.xattrs, &node.xattrs.block) {
            let (number, mut block) = (layout.block(slot), block.clone());
            xattr::seal(&mut block, number, seed);
            sink.put(number * BLOCK_BYTES, &block[..])?;
        }
        match &node.body {
            Body::Directory(directory) => {
                let mut next = place.data;
                directory.encode(number(at), seed.of_inode(number(at), 0), |block| {
                    let offset = layout.block(next) * BLOCK_BYTES;
                    next += 1;
                    sink.put(offset, block)
                })?;
            }
            Body::Symlink(target) if place.blocks > 0 => {
                let mut block = [0; BLOCK];
                block[..target.len()].copy_from_slice(target);
                sink.put(layout.block(place.data) * BLOCK_BYTES, &block)?;
            }
            Body::File(content) => self.write_file((node.path, content), place, sink)?,
            Body::Symlink(_) | Body::Special(..) => {}
        }
        if place.tree_blocks > 0 {
            for (block, bytes) in self.extent_tree(number(at), place).1 {
                sink.put(block * BLOCK_BYTES, &bytes[..])?;
            }
        }
        Ok(())
    }

    /// A file's bytes, read straight into the sink's buffer, the last block filled up with zeros.
    fn write_file<W: WriteAt + ?Sized>(
        &self,
        (path, content): (&[u8], &Content),
        place: &Place,
        sink: &mut Sink<'_, W>,
    ) -> Result<(), Error> {
        let fault = |source| Error::Content { path: shown(path), source };
        for extent in self.places.layout.extents(place.data, place.blocks) {
            let mut from = u64::from(extent.logical) * BLOCK_BYTES;
            let end = from + u64::from(extent.len) * BLOCK_BYTES;
            let mut offset = extent.start * BLOCK_BYTES;
            while from < end {
                let room = sink.room(offset, end - from)?;
                let (len, room_len) = (content.len() - from, room.len() as u64);
                let (bytes, rest) = room.split_at_mut(index(len.min(room_len)));
                content.read_exact_at(bytes, from).map_err(fault)?;
                rest.fill(0);
                from += room_len;
                offset += room_len;
            }
        }
        Ok(())
    }
}
