//! The inode table: every inode in use, and the extent trees that inodes hold.

use super::error::Error;
use super::extent;
use super::format::{BLOCK, BLOCK_BYTES, INODE_SIZE, SECTORS_PER_BLOCK, ino};
use super::inode::{FLAG_EXTENTS, FLAG_INDEX, Inode, mode};
use super::inventory::{Body, FAST_SYMLINK, number};
use super::place::Place;
use super::resize;
use super::sink::Sink;
use super::write::Writer;
use crate::io::WriteAt;

/// A block of an extent tree and where it goes.
pub(super) type TreeBlock = (u64, Box<[u8; BLOCK]>);

impl Writer<'_, '_> {
    /// The inode table's used part.
    pub(super) fn write_inodes<W: WriteAt + ?Sized>(&self, sink: &mut Sink<'_, W>) -> Result<(), Error> {
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
    pub(super) fn extent_tree(&self, number: u32, place: &Place) -> ([u8; 60], Vec<TreeBlock>) {
        let layout = &self.places.layout;
        let extents = layout.extents(place.data, place.blocks);
        let blocks: Vec<u64> = (0..place.tree_blocks).map(|at| layout.block(place.tree + at)).collect();
        let (root, nodes) =
            extent::encode(&extents, &blocks, self.options.checksum_seed().of_inode(number, 0));
        (root, blocks.into_iter().zip(nodes).collect())
    }

    pub(super) fn journal_inode(&self) -> Inode {
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
}
