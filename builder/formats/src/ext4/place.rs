//! Slots for everything that belongs to an inode, one after the other: equal input, equal places.

use super::extent::tree_blocks;
use super::format::BLOCK_BYTES;
use super::inventory::{Body, FAST_SYMLINK, Inventory, Node};
use super::journal;
use super::layout::{Layout, Short};
use super::options::Options;

/// How directories are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    /// As they are arranged.
    Arranged,
    /// As they would be with the worst hash seed.
    Worst,
}

/// Where the content of one inode lies, in slots.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    /// First slot of the content, and how many.
    pub(super) data: u64,
    pub(super) blocks: u64,
    /// First slot of the extent tree's blocks, and how many.
    pub(super) tree: u64,
    pub(super) tree_blocks: u64,
    /// The slot of the block of attributes.
    pub(super) xattrs: Option<u64>,
}

/// The places of a whole file system.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) layout: Layout,
    pub(super) journal: Place,
    /// The resize inode's double indirect block, when there are reserved descriptor blocks.
    pub(super) resize: Option<u64>,
    pub(super) nodes: Vec<Place>,
    /// Slots taken.
    pub(super) taken: u64,
}

/// The order in which content lies: directories, then the blocks of links and devices, then files.
pub(super) fn ordered<'a, 't>(nodes: &'a [Node<'t>]) -> impl Iterator<Item = (usize, &'a Node<'t>)> {
    let of =
        |class: fn(&Body<'_>) -> bool| nodes.iter().enumerate().filter(move |(_, node)| class(&node.body));
    of(|body| matches!(body, Body::Directory(_)))
        .chain(of(|body| matches!(body, Body::Symlink(_) | Body::Special(..))))
        .chain(of(|body| matches!(body, Body::File(_))))
}

impl Places {
    /// Places for a file system of `blocks`.
    pub(super) fn new(
        inventory: &Inventory<'_>,
        blocks: u64,
        packing: Packing,
        options: &Options,
    ) -> Result<Self, Short> {
        // One inode per 16 KiB, mke2fs' default.
        let wanted = options.inodes.map_or(blocks / 4, u64::from);
        let layout = Layout::new(blocks, wanted.max(inventory.inodes()))?;
        let mut next = Next { layout: &layout, slot: 0 };
        let journal_blocks = options.journal_blocks.unwrap_or_else(|| journal::default_blocks(layout.blocks));
        let journal = next.place(u64::from(journal_blocks), false);
        let resize = (layout.reserved_descriptor_blocks > 0).then(|| next.take(1));
        let mut nodes = vec![Place::default(); inventory.nodes.len()];
        for (index, node) in ordered(&inventory.nodes) {
            nodes[index] = next.place(content_blocks(node, packing), node.xattrs.block.is_some());
        }
        let taken = next.slot;
        match taken.checked_sub(layout.slots()) {
            None | Some(0) => Ok(Self { layout, journal, resize, nodes, taken }),
            Some(short) => Err(layout.short(blocks, short)),
        }
    }
}

/// Hands out slots.
struct Next<'a> {
    layout: &'a Layout,
    slot: u64,
}

impl Next<'_> {
    fn take(&mut self, count: u64) -> u64 {
        let slot = self.slot;
        self.slot += count;
        slot
    }

    fn place(&mut self, blocks: u64, xattrs: bool) -> Place {
        let xattrs = xattrs.then(|| self.take(1));
        let data = self.take(blocks);
        let tree_blocks = tree_blocks(self.layout.extents(data, blocks).len()) as u64;
        let tree = self.take(tree_blocks);
        Place { data, blocks, tree, tree_blocks, xattrs }
    }
}

/// Blocks of a node's content.
fn content_blocks(node: &Node<'_>, packing: Packing) -> u64 {
    match &node.body {
        Body::Directory(directory) if packing == Packing::Worst => directory.blocks_at_worst() as u64,
        Body::Directory(directory) => directory.blocks() as u64,
        Body::File(content) => content.len().div_ceil(BLOCK_BYTES),
        Body::Symlink(target) => u64::from(target.len() >= FAST_SYMLINK),
        Body::Special(..) => 0,
    }
}
