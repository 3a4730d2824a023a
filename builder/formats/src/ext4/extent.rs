//! Extents (ifork.rst, "Extent Tree"): runs of blocks, four of them in the inode, more in a tree.

use super::checksum::Checksum;
use super::format::{BLOCK, high32, low16, low32, put16, put32};

/// `eh_magic`.
pub(super) const MAGIC: u16 = 0xF30A;
/// Bytes of the header and of each entry.
pub(super) const ENTRY_SIZE: usize = 12;
/// Entries in the inode's 60 bytes.
pub(super) const IN_INODE: usize = 4;
/// Entries in a block; the last four bytes are the checksum.
const IN_BLOCK: usize = (BLOCK - ENTRY_SIZE - 4) / ENTRY_SIZE;
/// Blocks of an initialised extent at most (`ee_len`).
pub(super) const MAX_LEN: u64 = 32768;

/// A run of blocks of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// First block within the file.
    pub(super) logical: u32,
    /// First block on disk.
    pub(super) start: u64,
    /// Number of blocks, at most [`MAX_LEN`].
    pub(super) len: u32,
}

/// Blocks that a tree over `extents` extents takes outside the inode.
pub(super) fn tree_blocks(extents: usize) -> usize {
    let (mut level, mut blocks) = (extents, 0);
    while level > IN_INODE {
        level = level.div_ceil(IN_BLOCK);
        blocks += level;
    }
    blocks
}

/// The inode's 60 bytes and the blocks of the tree, to be written at `places` in this order (there are
/// [`tree_blocks`] of them); `seed` is the inode's.
pub(super) fn encode(
    extents: &[Extent],
    places: &[u64],
    seed: Checksum,
) -> ([u8; 60], Vec<Box<[u8; BLOCK]>>) {
    let mut entries: Vec<(u32, [u8; ENTRY_SIZE])> =
        extents.iter().map(|extent| (extent.logical, leaf_entry(extent))).collect();
    let (mut depth, mut blocks) = (0u16, Vec::with_capacity(places.len()));
    while entries.len() > IN_INODE {
        let mut above = Vec::with_capacity(entries.len().div_ceil(IN_BLOCK));
        for chunk in entries.chunks(IN_BLOCK) {
            let mut block = Box::new([0; BLOCK]);
            node(&mut block[..BLOCK - 4], depth, chunk);
            let sum = seed.with(&block[..BLOCK - 4]).0;
            put32(&mut block[..], BLOCK - 4, sum);
            let first = chunk.first().map_or(0, |entry| entry.0);
            above.push((first, index_entry(first, places.get(blocks.len()).copied().unwrap_or(0))));
            blocks.push(block);
        }
        entries = above;
        depth += 1;
    }
    let mut root = [0; 60];
    node(&mut root, depth, &entries);
    (root, blocks)
}

/// A header and its entries, into an area of the node's size.
fn node(area: &mut [u8], depth: u16, entries: &[(u32, [u8; ENTRY_SIZE])]) {
    let room = (area.len() - ENTRY_SIZE) / ENTRY_SIZE;
    put16(area, 0, MAGIC);
    put16(area, 2, u16::try_from(entries.len()).unwrap_or(0)); // eh_entries
    put16(area, 4, u16::try_from(room).unwrap_or(0)); // eh_max
    put16(area, 6, depth);
    for (slot, (_, entry)) in area[ENTRY_SIZE..].chunks_exact_mut(ENTRY_SIZE).zip(entries) {
        slot.copy_from_slice(entry);
    }
}

fn leaf_entry(extent: &Extent) -> [u8; ENTRY_SIZE] {
    let mut out = [0; ENTRY_SIZE];
    put32(&mut out, 0, extent.logical);
    put16(&mut out, 4, low16(extent.len));
    put16(&mut out, 6, low16(high32(extent.start)));
    put32(&mut out, 8, low32(extent.start));
    out
}

fn index_entry(logical: u32, child: u64) -> [u8; ENTRY_SIZE] {
    let mut out = [0; ENTRY_SIZE];
    put32(&mut out, 0, logical);
    put32(&mut out, 4, low32(child));
    put16(&mut out, 8, low16(high32(child)));
    out
}

#[cfg(test)]
mod tests {
    use super::super::format::{get16, get32};
    use super::{BLOCK, Checksum, ENTRY_SIZE, Extent, MAGIC, encode, tree_blocks};

    /// First blocks of all extents below a node, in order, checking every header and checksum on the way.
    fn walk(node: &[u8], blocks: &[Box<[u8; BLOCK]>], depth: u16, seed: Checksum) -> Vec<u32> {
        assert_eq!((get16(node, 0), get16(node, 6)), (MAGIC, depth));
        let entries = node[ENTRY_SIZE..].chunks_exact(ENTRY_SIZE).take(usize::from(get16(node, 2)));
        entries
            .flat_map(|entry| {
                if depth == 0 {
                    return vec![get32(entry, 0)];
                }
                // Tests put block n of the tree at block 1000 + n.
                let child = &blocks[get32(entry, 4) as usize - 1000];
                assert_eq!(seed.with(&child[..BLOCK - 4]).0, get32(&child[..], BLOCK - 4));
                assert_eq!(get16(&child[..], 4), 340);
                let below = walk(&child[..BLOCK - 4], blocks, depth - 1, seed);
                assert_eq!(below.first(), Some(&get32(entry, 0)));
                below
            })
            .collect()
    }

    #[test]
    fn trees_of_every_depth_hold_all_extents_in_order() {
        let seed = Checksum::START.of_inode(12, 0);
        for (count, depth, outside) in [
            (0, 0, 0),
            (1, 0, 0),
            (4, 0, 0),
            (5, 1, 1),
            (340, 1, 1),
            (341, 1, 2),
            (1360, 1, 4),
            (1361, 2, 6),
            (200_000, 2, 591),
        ] {
            let extents: Vec<_> =
                (0..count).map(|n| Extent { logical: n * 3, start: u64::from(n) * 7 + 1, len: 3 }).collect();
            assert_eq!(tree_blocks(extents.len()), outside, "{count}");
            let places: Vec<u64> = (1000..1000 + outside as u64).collect();
            let (root, blocks) = encode(&extents, &places, seed);
            assert_eq!(blocks.len(), outside);
            let found = walk(&root, &blocks, depth, seed);
            assert!(found.iter().copied().eq((0..count).map(|n| n * 3)), "{count}");
        }
    }
}
