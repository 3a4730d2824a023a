//! The binary index of libkmod: a radix tree, parents before children, big-endian, flags in the top bits of
//! an offset (kmod's `libkmod/libkmod-index.h` describes the format).

use std::collections::BTreeMap;

const MAGIC: u32 = 0xB007_F457;
const VERSION: u32 = 0x0002_0001;
const HAS_PREFIX: u32 = 0x8000_0000;
const HAS_VALUES: u32 = 0x4000_0000;
const HAS_CHILDREN: u32 = 0x2000_0000;

#[derive(Debug, Default)]
struct Node {
    prefix: Vec<u8>,
    children: BTreeMap<u8, Node>,
    /// Priority and value; of equal priorities the later comes first.
    values: Vec<(u32, String)>,
}

/// Keys with values, each of a priority (lower first).
#[derive(Debug, Default)]
pub(super) struct Trie {
    root: Node,
}

impl Trie {
    /// Adds a value. Keys that are not ASCII cannot be indexed and are left out, as depmod does.
    pub(super) fn insert(&mut self, key: &str, value: &str, priority: u32) {
        if key.is_ascii() {
            self.root.insert(key.as_bytes(), value, priority);
        }
    }

    /// The file.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for word in [MAGIC, VERSION, 0] {
            out.extend(word.to_be_bytes());
        }
        let root = self.root.write(&mut out);
        out[8..12].copy_from_slice(&root.to_be_bytes());
        out
    }
}

impl Node {
    fn insert(&mut self, key: &[u8], value: &str, priority: u32) {
        let common = self.prefix.iter().zip(key).take_while(|(a, b)| a == b).count();
        if common < self.prefix.len() {
            let mut lower = std::mem::take(self);
            self.prefix = lower.prefix[..common].to_vec();
            let byte = lower.prefix[common];
            lower.prefix.drain(..=common);
            self.children.insert(byte, lower);
        }
        match key.get(common) {
            None => {
                let at = self.values.iter().take_while(|(other, _)| *other < priority).count();
                self.values.insert(at, (priority, value.to_owned()));
            }
            Some(byte) => match self.children.get_mut(byte) {
                Some(child) => child.insert(&key[common + 1..], value, priority),
                None => {
                    let values = vec![(priority, value.to_owned())];
                    let child = Self { prefix: key[common + 1..].to_vec(), values, ..Self::default() };
                    self.children.insert(*byte, child);
                }
            },
        }
    }

    /// Writes the node, then its children one after the other; returns its offset with flags.
    fn write(&self, out: &mut Vec<u8>) -> u32 {
        let mut offset = here(out);
        if !self.prefix.is_empty() {
            out.extend(&self.prefix);
            out.push(0);
            offset |= HAS_PREFIX;
        }
        let mut table = 0;
        let range = self.children.keys().next().copied().zip(self.children.keys().next_back().copied());
        if let Some((first, last)) = range {
            out.extend([first, last]);
            table = out.len();
            out.resize(table + 4 * (usize::from(last - first) + 1), 0);
            offset |= HAS_CHILDREN;
        }
        if !self.values.is_empty() {
            out.extend(u32::try_from(self.values.len()).unwrap_or(0).to_be_bytes());
            for (priority, value) in &self.values {
                out.extend(priority.to_be_bytes());
                out.extend(value.as_bytes());
                out.push(0);
            }
            offset |= HAS_VALUES;
        }
        for (byte, child) in &self.children {
            let at = table + 4 * usize::from(byte - range.map_or(0, |(first, _)| first));
            let child = child.write(out);
            out[at..at + 4].copy_from_slice(&child.to_be_bytes());
        }
        offset
    }
}

/// The next offset. Indices of all modules of a kernel are a few megabytes; the format itself ends at 256.
fn here(out: &[u8]) -> u32 {
    u32::try_from(out.len()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::Trie;

    /// By hand from the format: root with children `a` and `b`; `a` has the prefix `b` and a value.
    #[test]
    fn small_tries_have_these_bytes() {
        let mut trie = Trie::default();
        trie.insert("ab", "x", 1);
        trie.insert("b", "", 0);
        let expected = [
            &[0xB0, 0x07, 0xF4, 0x57, 0, 2, 0, 1, 0x20, 0, 0, 12][..],
            b"ab",
            &[0xC0, 0, 0, 22, 0x40, 0, 0, 34],
            b"b\0",
            &[0, 0, 0, 1, 0, 0, 0, 1],
            b"x\0",
            &[0, 0, 0, 1, 0, 0, 0, 0, 0],
        ];
        assert_eq!(trie.to_bytes(), expected.concat());
    }

    #[test]
    fn equal_keys_are_sorted_by_priority() {
        let mut trie = Trie::default();
        for (value, priority) in [("late", 9), ("early", 1), ("middle", 5)] {
            trie.insert("k", value, priority);
        }
        let bytes = trie.to_bytes();
        let at = |word: &str| bytes.windows(word.len()).position(|window| window == word.as_bytes()).unwrap();
        assert!(at("early") < at("middle") && at("middle") < at("late"));
    }
}
