//! The blocks that files own: journal, directories, links, attributes, content, extent trees.

use super::error::{Error, shown};
use super::format::{BLOCK, BLOCK_BYTES, index, ino, low32};
use super::inventory::{Body, Node, number};
use super::journal;
use super::place::{Place, ordered};
use super::resize;
use super::sink::Sink;
use super::write::Writer;
use super::xattr;
use crate::io::WriteAt;
use crate::tree::Content;

impl Writer<'_, '_> {
    /// Journal, resize map, directories, links, files.
    pub(super) fn write_contents<W: WriteAt + ?Sized>(&self, sink: &mut Sink<'_, W>) -> Result<(), Error> {
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
