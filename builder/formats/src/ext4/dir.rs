//! Directories (directory.rst): one block of names, or a hash tree over leaf blocks sorted by hash.

use super::checksum::Checksum;
use super::format::{BLOCK, put16, put32};
use super::hash::{HALF_MD4, half_md4};

/// Bytes of a leaf without the checksum's pretended entry (`struct ext4_dir_entry_tail`).
const LEAF_ROOM: usize = BLOCK - TAIL_SIZE;
const TAIL_SIZE: usize = 12;
/// File type of that pretended entry.
const TAIL_TYPE: u8 = 0xDE;
/// Bytes of an entry with the longest name.
const LONGEST_ENTRY: usize = entry_size(255);
/// Where count and limit stand in the root and in the other index blocks.
const ROOT_COUNT_AT: usize = 0x20;
const NODE_COUNT_AT: usize = 0x8;
/// Index entries that fit before the checksum (`struct dx_tail`).
const ROOT_LIMIT: usize = (BLOCK - ROOT_COUNT_AT - 8) / 8;
const NODE_LIMIT: usize = (BLOCK - NODE_COUNT_AT - 8) / 8;
/// File type of a directory.
const TYPE_DIRECTORY: u8 = 2;

/// A name in a directory.
#[derive(Debug)]
pub(super) struct Child<'t> {
    pub(super) name: &'t [u8],
    pub(super) inode: u32,
    pub(super) file_type: u8,
}

/// A directory's names and how they lie in blocks.
#[derive(Debug)]
pub(super) struct Directory<'t> {
    /// Inode of the parent.
    pub(super) parent: u32,
    pub(super) children: Vec<Child<'t>>,
    /// Leaves of the hash tree; empty for a directory of one block.
    leaves: Vec<Leaf>,
}

/// A leaf: where its names begin and its hash in the index.
#[derive(Debug)]
struct Leaf {
    first: usize,
    hash: u32,
}

/// `rec_len` that a name of `len` bytes needs.
const fn entry_size(len: usize) -> usize {
    (8 + len).next_multiple_of(4)
}

impl<'t> Directory<'t> {
    pub(super) fn new(parent: u32) -> Self {
        Self { parent, children: Vec::new(), leaves: Vec::new() }
    }

    fn bytes(&self) -> usize {
        self.children.iter().map(|child| entry_size(child.name.len())).sum()
    }

    fn fits_one_block(&self) -> bool {
        self.bytes() + entry_size(1) + entry_size(2) <= LEAF_ROOM
    }

    /// Decides the order of names; `seed` is `s_hash_seed`. False when a two-level index cannot hold them.
    pub(super) fn arrange(&mut self, seed: [u32; 4]) -> bool {
        self.leaves.clear();
        if self.fits_one_block() {
            self.children.sort_by(|a, b| a.name.cmp(b.name));
            return true;
        }
        let children = std::mem::take(&mut self.children);
        let mut hashed: Vec<_> =
            children.into_iter().map(|child| (half_md4(child.name, seed), child)).collect();
        hashed.sort_by(|(a, one), (b, other)| a.cmp(b).then_with(|| one.name.cmp(other.name)));
        let sizes = hashed.iter().map(|((hash, _), child)| (*hash, entry_size(child.name.len())));
        self.leaves = split(&sizes.collect::<Vec<_>>());
        self.children = hashed.into_iter().map(|(_, child)| child).collect();
        self.leaves.len() <= ROOT_LIMIT * NODE_LIMIT
    }

    /// Blocks of the directory, once arranged.
    pub(super) fn blocks(&self) -> usize {
        with_index(self.leaves.len())
    }

    /// Blocks that suffice with any hash seed.
    pub(super) fn blocks_at_worst(&self) -> usize {
        if self.fits_one_block() {
            return 1;
        }
        // A leaf ends early by less than one entry, or by the few that share the hash of the next.
        with_index(self.bytes().div_ceil(LEAF_ROOM - 3 * LONGEST_ENTRY))
    }

    /// All blocks in order; `inode` is the directory's own, `seed` its checksum seed.
    pub(super) fn encode<E>(
        &self,
        inode: u32,
        seed: Checksum,
        mut put: impl FnMut(&[u8; BLOCK]) -> Result<(), E>,
    ) -> Result<(), E> {
        let dots = [
            Child { name: b".", inode, file_type: TYPE_DIRECTORY },
            Child { name: b"..", inode: self.parent, file_type: TYPE_DIRECTORY },
        ];
        let mut block = [0; BLOCK];
        if self.leaves.is_empty() {
            fill_leaf(&mut block, dots.iter().chain(&self.children), seed);
            return put(&block);
        }
        let nodes = index_nodes(self.leaves.len());
        let first_leaf = 1 + nodes;
        let leaves: Vec<_> =
            self.leaves.iter().zip(first_leaf..).map(|(leaf, at)| (leaf.hash, number(at))).collect();
        let below: Vec<_> = match nodes {
            0 => leaves.clone(),
            _ => leaves.chunks(NODE_LIMIT).zip(1..).map(|(chunk, at)| (chunk[0].0, number(at))).collect(),
        };
        put_entry(&mut block, (0, entry_size(1)), &dots[0]);
        put_entry(&mut block, (entry_size(1), BLOCK - entry_size(1)), &dots[1]);
        block[0x1C] = HALF_MD4; // hash_version
        block[0x1D] = 8; // info_length
        block[0x1E] = u8::from(nodes > 0); // indirect_levels
        put_index(&mut block, (ROOT_COUNT_AT, ROOT_LIMIT), &below, seed);
        put(&block)?;
        if nodes > 0 {
            for chunk in leaves.chunks(NODE_LIMIT) {
                block.fill(0);
                put16(&mut block, 4, u16::try_from(BLOCK).unwrap_or(0)); // a free entry over the whole block
                put_index(&mut block, (NODE_COUNT_AT, NODE_LIMIT), chunk, seed);
                put(&block)?;
            }
        }
        for (at, leaf) in self.leaves.iter().enumerate() {
            let end = self.leaves.get(at + 1).map_or(self.children.len(), |next| next.first);
            block.fill(0);
            fill_leaf(&mut block, self.children[leaf.first..end].iter(), seed);
            put(&block)?;
        }
        Ok(())
    }
}

/// Cuts names, given by hash (sorted) and size of entry, into leaves.
fn split(names: &[(u32, usize)]) -> Vec<Leaf> {
    let (mut first, mut fill, mut leaves) = (0, 0, Vec::new());
    for (at, (hash, size)) in names.iter().enumerate() {
        if fill + size > LEAF_ROOM {
            // Names of one hash stay in one leaf wherever they fit: no index entry needs the "goes on"
            // bit then.
            let other = names[first..at].iter().rposition(|(before, _)| before != hash);
            let next = other.map_or(at, |other| first + other + 1);
            leaves.push(leaf(names, first));
            first = next;
            fill = names[first..at].iter().map(|(_, size)| size).sum();
        }
        fill += size;
    }
    leaves.push(leaf(names, first));
    leaves
}

fn leaf(names: &[(u32, usize)], first: usize) -> Leaf {
    let hash = names[first].0;
    // The lowest bit tells a lookup that names of this hash begin in the leaf before.
    let goes_on = first > 0 && names[first - 1].0 == hash;
    Leaf { first, hash: hash | u32::from(goes_on) }
}

fn index_nodes(leaves: usize) -> usize {
    if leaves > ROOT_LIMIT { leaves.div_ceil(NODE_LIMIT) } else { 0 }
}

fn with_index(leaves: usize) -> usize {
    1 + index_nodes(leaves) + leaves
}

/// A block number within a directory; [`Directory::arrange`] bounds them.
fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

fn put_entry(block: &mut [u8; BLOCK], (at, len): (usize, usize), child: &Child<'_>) {
    put32(block, at, child.inode);
    put16(block, at + 4, u16::try_from(len).unwrap_or(0));
    block[at + 6] = u8::try_from(child.name.len()).unwrap_or(u8::MAX);
    block[at + 7] = child.file_type;
    block[at + 8..at + 8 + child.name.len()].copy_from_slice(child.name);
}

/// Names from the front, the last one stretched over the rest, then the checksum.
fn fill_leaf<'a, 't: 'a>(
    block: &mut [u8; BLOCK],
    children: impl Iterator<Item = &'a Child<'t>>,
    seed: Checksum,
) {
    let (mut at, mut last) = (0, 0);
    for child in children {
        let size = entry_size(child.name.len());
        put_entry(block, (at, size), child);
        last = at;
        at += size;
    }
    put16(block, last + 4, u16::try_from(LEAF_ROOM - last).unwrap_or(0));
    put16(block, LEAF_ROOM + 4, u16::try_from(TAIL_SIZE).unwrap_or(0));
    block[LEAF_ROOM + 7] = TAIL_TYPE;
    let sum = seed.with(&block[..LEAF_ROOM]).0;
    put32(block, LEAF_ROOM + 8, sum);
}

/// Index entries at `at`, where the first one's hash is replaced by limit and count, then the checksum over
/// the used entries (`ext4_dx_csum`).
fn put_index(block: &mut [u8; BLOCK], (at, limit): (usize, usize), entries: &[(u32, u32)], seed: Checksum) {
    for (slot, (hash, child)) in entries.iter().enumerate() {
        put32(block, at + slot * 8, *hash);
        put32(block, at + slot * 8 + 4, *child);
    }
    put16(block, at, u16::try_from(limit).unwrap_or(0));
    put16(block, at + 2, u16::try_from(entries.len()).unwrap_or(0));
    let sum = seed.with(&block[..at + entries.len() * 8]).with(&[0; 8]).0;
    put32(block, BLOCK - 4, sum);
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn names_of_one_hash_stay_together_where_they_fit() {
        // Four entries of 1000 bytes fit into a leaf of 4084.
        let leaves = |hashes: &[u32]| -> Vec<(usize, u32)> {
            let names: Vec<_> = hashes.iter().map(|hash| (*hash, 1000)).collect();
            split(&names).iter().map(|leaf| (leaf.first, leaf.hash)).collect()
        };
        assert_eq!(leaves(&[2, 4, 6, 8]), [(0, 2)]);
        assert_eq!(leaves(&[2, 4, 6, 8, 10]), [(0, 2), (4, 10)]);
        assert_eq!(leaves(&[2, 4, 6, 8, 8]), [(0, 2), (3, 8)]);
        assert_eq!(leaves(&[2, 4, 4, 4, 4, 6]), [(0, 2), (1, 4), (5, 6)]);
        assert_eq!(leaves(&[2, 2, 2, 2, 2, 4]), [(0, 2), (4, 3)]);
        assert_eq!(leaves(&[0, 2, 2, 2, 2, 2, 2]), [(0, 0), (1, 2), (5, 3)]);
    }
}
