//! The trie of match patterns and its form on disk.
//!
//! Format: systemd, src/libsystemd/sd-hwdb/hwdb-internal.h; order of what is in it: src/shared/hwdb-util.c
//! (`trie_insert`, `trie_store_nodes`) and, for the strings, src/basic/strbuf.c. All numbers are
//! little-endian, all offsets count from the start of the file.

const SIGNATURE: [u8; 8] = *b"KSLPHHRH";
/// The header's `tool_version`: systemd's.
const VERSION: usize = 257;
const HEADER: usize = 80;
const NODE: usize = 24;
const CHILD: usize = 16;
/// A value with the place that it is from: `trie_value_entry2_f`.
const VALUE: usize = 32;

/// Where a property is from.
pub(super) struct Place<'a> {
    /// Path of the file.
    pub(super) file: &'a [u8],
    /// Line in it, from 1.
    pub(super) line: u32,
    /// The file's number, from 1; the higher wins.
    pub(super) priority: u16,
}

/// Patterns that share a beginning share the nodes for it. Offsets in nodes and values are those of strings.
pub(super) struct Trie {
    nodes: Vec<Node>,
    strings: Strings,
}

#[derive(Default)]
struct Node {
    /// What all patterns of this node continue with.
    prefix: usize,
    /// By the byte after the prefix, sorted.
    children: Vec<(u8, usize)>,
    /// Of the pattern that ends here, sorted by key.
    values: Vec<Value>,
}

struct Value {
    key: usize,
    value: usize,
    file: usize,
    line: u32,
    priority: u16,
}

impl Default for Trie {
    fn default() -> Self {
        Self { nodes: vec![Node::default()], strings: Strings::default() }
    }
}

impl Trie {
    /// Gives a pattern a property, instead of the one that it has under the same key. No string has a zero.
    pub(super) fn insert(&mut self, pattern: &[u8], property: (&[u8], &[u8]), place: &Place<'_>) {
        let mut node = 0;
        let mut rest = pattern;
        loop {
            let prefix = self.strings.at(self.nodes[node].prefix);
            let common = prefix.iter().zip(rest).take_while(|(a, b)| a == b).count();
            if common < prefix.len() {
                self.split(node, common);
            }
            let Some((byte, after)) = rest[common..].split_first() else {
                return self.set(node, property, place);
            };
            rest = after;
            match self.nodes[node].children.binary_search_by_key(byte, |child| child.0) {
                Ok(at) => node = self.nodes[node].children[at].1,
                Err(at) => {
                    let child = self.nodes.len();
                    self.nodes.push(Node { prefix: self.strings.add(rest), ..Node::default() });
                    self.nodes[node].children.insert(at, (*byte, child));
                    return self.set(child, property, place);
                }
            }
        }
    }

    /// Leaves a node `len` bytes of its prefix and moves the rest to a single child.
    fn split(&mut self, node: usize, len: usize) {
        let start = self.nodes[node].prefix;
        let (prefix, byte) =
            (self.strings.bytes[start..start + len].to_vec(), self.strings.bytes[start + len]);
        let children = vec![(byte, self.nodes.len())];
        let parent = Node { prefix: self.strings.add(&prefix), children, values: Vec::new() };
        let mut child = std::mem::replace(&mut self.nodes[node], parent);
        child.prefix = start + len + 1;
        self.nodes.push(child);
    }

    fn set(&mut self, node: usize, (key, value): (&[u8], &[u8]), place: &Place<'_>) {
        let new = Value {
            key: self.strings.add(key),
            value: self.strings.add(value),
            file: self.strings.add(place.file),
            line: place.line,
            priority: place.priority,
        };
        let values = &mut self.nodes[node].values;
        match values.binary_search_by(|old| self.strings.at(old.key).cmp(key)) {
            // The offset of the key stays: equal strings have one.
            Ok(at) => values[at] = new,
            Err(at) => values.insert(at, new),
        }
    }

    /// The file: header, nodes with their children and values, strings.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        let order = self.order();
        let size = |node: &Node| NODE + node.children.len() * CHILD + node.values.len() * VALUE;
        let len: usize = self.nodes.iter().map(size).sum();
        let strings = HEADER + len;
        let total = strings + self.strings.bytes.len();
        let mut out = Vec::with_capacity(total);
        out.extend(SIGNATURE);
        // The root is the last node.
        let root = strings - size(&self.nodes[0]);
        for word in [VERSION, total, HEADER, NODE, CHILD, VALUE, root, len, self.strings.bytes.len()] {
            out.extend(bytes(word));
        }
        let mut offsets = vec![0; self.nodes.len()];
        for at in order {
            offsets[at] = out.len();
            let node = &self.nodes[at];
            out.extend(bytes(strings + node.prefix));
            // At most 255, as no byte of a pattern is zero; seven bytes of padding are zero.
            out.extend(bytes(node.children.len()));
            out.extend(bytes(node.values.len()));
            for (byte, child) in &node.children {
                out.extend(bytes(usize::from(*byte)));
                out.extend(bytes(offsets[*child]));
            }
            for value in &node.values {
                for offset in [value.key, value.value, value.file] {
                    out.extend(bytes(strings + offset));
                }
                out.extend(value.line.to_le_bytes());
                out.extend(value.priority.to_le_bytes());
                out.extend([0, 0]);
            }
        }
        out.extend(self.strings.bytes);
        out
    }

    /// Every node after its children, these in order of their bytes. Not recursive: patterns may be long.
    fn order(&self) -> Vec<usize> {
        let mut order = Vec::with_capacity(self.nodes.len());
        let mut open = vec![0];
        while let Some(node) = open.pop() {
            order.push(node);
            open.extend(self.nodes[node].children.iter().map(|child| child.1));
        }
        order.reverse();
        order
    }
}

fn bytes(word: usize) -> [u8; 8] {
    (word as u64).to_le_bytes()
}

/// Strings one after another, each with a zero at its end, and a trie of their last bytes to find a string
/// that is the end of another.
struct Strings {
    bytes: Vec<u8>,
    ends: Vec<End>,
}

#[derive(Default)]
struct End {
    /// A string: where it starts and how long it is.
    start: usize,
    len: usize,
    /// By the byte before those that led here, sorted.
    children: Vec<(u8, usize)>,
}

impl Default for Strings {
    fn default() -> Self {
        Self { bytes: vec![0], ends: vec![End::default()] }
    }
}

impl Strings {
    /// The string at an offset.
    fn at(&self, offset: usize) -> &[u8] {
        let rest = &self.bytes[offset..];
        &rest[..rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len())]
    }

    /// Where the string is, after it was added when no string on its way through the trie ends with it.
    fn add(&mut self, string: &[u8]) -> usize {
        if string.is_empty() {
            return 0;
        }
        let mut node = 0;
        for depth in 0..=string.len() {
            let End { start, len, children } = &self.ends[node];
            // The bytes that led here are the same already.
            let left = string.len() - depth;
            if *len >= string.len() {
                let offset = start + len - string.len();
                if self.bytes[offset..offset + left] == string[..left] {
                    return offset;
                }
            }
            let Some(byte) = left.checked_sub(1).map(|at| string[at]) else { break };
            match children.binary_search_by_key(&byte, |child| child.0) {
                Ok(at) => node = children[at].1,
                Err(at) => {
                    let end = self.ends.len();
                    self.ends[node].children.insert(at, (byte, end));
                    break;
                }
            }
        }
        let start = self.bytes.len();
        self.ends.push(End { start, len: string.len(), children: Vec::new() });
        self.bytes.extend(string);
        self.bytes.push(0);
        start
    }
}
