//! kmod's on-disk index: a trie with compressed paths.
//!
//! Format: kmod 34, libkmod/libkmod-index.c ("Integers are stored as 32 bit unsigned in network order") and
//! tools/depmod.c. A header of magic, version and root offset; then nodes in pre-order, each its prefix
//! (zero-terminated, when not empty), its children (first and last byte, then one offset for every byte
//! between) and its values (count, then priority and string). The high bits of an offset say which of the
//! three a node has.

use std::collections::BTreeMap;

const MAGIC: u32 = 0xB007_F457;
const VERSION: u32 = 0x0002_0001;
const HEADER: u32 = 12;
const HAS_PREFIX: u32 = 0x8000_0000;
const HAS_VALUES: u32 = 0x4000_0000;
const HAS_CHILDREN: u32 = 0x2000_0000;
const OFFSET: u32 = 0x0FFF_FFFF;

/// The longest key or value: kmod handles both in buffers of `PATH_MAX` bytes.
pub(super) const LONGEST: usize = 4095;

/// Why an index can't be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The format has 7 bits for a character.
    #[error("'{0}' is not plain ASCII")]
    Character(String),
    /// Longer than any program reads.
    #[error("a name is {0} bytes long; {LONGEST} are allowed")]
    Length(usize),
    /// Offsets have 28 bits.
    #[error("an index grows beyond 256 MiB")]
    Size,
}

/// An index that grows in memory.
#[derive(Debug, Default)]
pub(super) struct Index {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    prefix: Vec<u8>,
    values: Vec<(u32, Box<str>)>,
    children: BTreeMap<u8, Node>,
}

impl Index {
    /// Adds `value` at `key`; values of one key are kept by priority, of one priority the newest first.
    pub(super) fn insert(&mut self, key: &str, value: &str, priority: u32) -> Result<(), Unfit> {
        for text in [key, value] {
            if !text.is_ascii() || text.contains('\0') {
                return Err(Unfit::Character(text.into()));
            }
        }
        // Only the key's length bounds the depth of the trie.
        if key.len() > LONGEST {
            return Err(Unfit::Length(key.len()));
        }
        let mut rest = key.as_bytes();
        let mut node = &mut self.root;
        loop {
            let same = node.prefix.iter().zip(rest).take_while(|(a, b)| a == b).count();
            if same < node.prefix.len() {
                node.split(same);
            }
            rest = &rest[same..];
            let Some((first, tail)) = rest.split_first() else { break };
            node = node.children.entry(*first).or_insert_with(|| {
                let mut node = Node::default();
                node.prefix = tail.to_vec();
                node
            });
            rest = tail;
        }
        let at = node.values.partition_point(|(other, _)| *other < priority);
        node.values.insert(at, (priority, value.into()));
        Ok(())
    }

    /// The file's bytes.
    pub(super) fn bytes(&self) -> Result<Vec<u8>, Unfit> {
        let mut out = Vec::new();
        for word in [MAGIC, VERSION, HEADER | self.root.flags()] {
            out.extend(word.to_be_bytes());
        }
        self.root.write(&mut out)?;
        Ok(out)
    }
}

impl Node {
    /// Keeps `same` bytes of the prefix; the rest moves with values and children into a child.
    fn split(&mut self, same: usize) {
        let mut lower = std::mem::take(self);
        let tail = lower.prefix.split_off(same + 1);
        let byte = lower.prefix[same];
        lower.prefix.truncate(same);
        self.prefix = std::mem::replace(&mut lower.prefix, tail);
        self.children.insert(byte, lower);
    }

    fn flags(&self) -> u32 {
        let flag = |empty: bool, flag| if empty { 0 } else { flag };
        flag(self.prefix.is_empty(), HAS_PREFIX)
            | flag(self.values.is_empty(), HAS_VALUES)
            | flag(self.children.is_empty(), HAS_CHILDREN)
    }

    /// First and last byte a child has.
    fn range(&self) -> Option<(u8, u8)> {
        Some((*self.children.first_key_value()?.0, *self.children.last_key_value()?.0))
    }

    /// Appends this node and all below. Deep: whatever needs room on the stack is in functions of their own.
    fn write(&self, out: &mut Vec<u8>) -> Result<(), Unfit> {
        let (offsets, first) = self.write_own(out)?;
        for (byte, child) in &self.children {
            child.write_offset(out, offsets + 4 * usize::from(byte - first))?;
            child.write(out)?;
        }
        Ok(())
    }

    /// Where this node will be, and what it is, into the slot at `slot`.
    #[inline(never)]
    fn write_offset(&self, out: &mut [u8], slot: usize) -> Result<(), Unfit> {
        let offset = u32::try_from(out.len()).ok().filter(|at| *at <= OFFSET).ok_or(Unfit::Size)?;
        out[slot..slot + 4].copy_from_slice(&(offset | self.flags()).to_be_bytes());
        Ok(())
    }

    /// Appends this node without those below; gives where their offsets go, and the first byte that one has.
    #[inline(never)]
    fn write_own(&self, out: &mut Vec<u8>) -> Result<(usize, u8), Unfit> {
        if !self.prefix.is_empty() {
            out.extend(&self.prefix);
            out.push(0);
        }
        let offsets = out.len() + 2;
        let range = self.range();
        if let Some((first, last)) = range {
            out.extend([first, last]);
            out.resize(offsets + 4 * (usize::from(last - first) + 1), 0);
        }
        if !self.values.is_empty() {
            let count = u32::try_from(self.values.len()).map_err(|_| Unfit::Size)?;
            out.extend(count.to_be_bytes());
            for (priority, value) in &self.values {
                out.extend(priority.to_be_bytes());
                out.extend(value.as_bytes());
                out.push(0);
            }
        }
        Ok((offsets, range.map_or(0, |(first, _)| first)))
    }
}

/// Node by node: a call for each level would not fit the stack of a thread.
impl Drop for Node {
    fn drop(&mut self) {
        let mut below = vec![std::mem::take(&mut self.children)];
        while let Some(children) = below.pop() {
            for (_, mut child) in children {
                below.push(std::mem::take(&mut child.children));
            }
        }
    }
}
