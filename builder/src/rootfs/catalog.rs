//! `var/lib/systemd/catalog/database`: the texts that explain journal messages, as
//! `journalctl --update-catalog` of systemd 257 stores them.
//!
//! Format: systemd, src/libsystemd/sd-journal/catalog.c (`CatalogHeader`, `CatalogItem`; sources:
//! "Message Catalogs" on systemd.io) and src/basic/strbuf.c for the texts, of which one may be the end of
//! another.

use kiln_formats::tree::{Entry, Kind, Timestamp, Tree};
use std::collections::{BTreeMap, HashMap};

const DATABASE: &str = "var/lib/systemd/catalog/database";
/// A file's name in the later one hides the same name in the earlier.
const FOLDERS: [&str; 2] = ["usr/lib/systemd/catalog", "usr/local/lib/systemd/catalog"];
const HEADER: u64 = 40;
const ITEM: u64 = 56;
/// Bytes of a language with the zero at its end.
const LANGUAGE: usize = 32;

/// Why the database can't be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read from where its package lies.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A catalogue is not understood.
    #[error("{path}, line {line}: {reason}")]
    Catalog {
        /// The file.
        path: String,
        /// Its line, from 1.
        line: usize,
        /// What is wrong.
        reason: &'static str,
    },
}

/// A message's identifier and the language of its text.
type Key = ([u8; 16], Vec<u8>);

/// Texts by key, in the order in which keys came first: it decides where texts lie.
#[derive(Default)]
struct Items {
    texts: Vec<(Key, Vec<u8>)>,
    places: HashMap<Key, usize>,
}

/// Writes the database of a root that has catalogues, dated `time`.
pub fn run(tree: &mut Tree, time: Timestamp) -> Result<(), Error> {
    let mut files = BTreeMap::new();
    for folder in FOLDERS {
        for (path, entry) in tree.below(folder) {
            let name = &path[folder.len() + 1..];
            if let Kind::File(content) = &entry.kind
                && name.ends_with(b".catalog")
                && !name.contains(&b'/')
            {
                files.insert(name, (path, content));
            }
        }
    }
    let mut items = Items::default();
    for (name, (path, content)) in files {
        let path = String::from_utf8_lossy(path).into_owned();
        let bytes = content.read().map_err(|source| Error::Read { path: path.clone(), source })?;
        import(&mut items, language(name), &bytes).map_err(|(line, reason)| Error::Catalog {
            path,
            line,
            reason,
        })?;
    }
    if items.texts.is_empty() {
        return Ok(());
    }
    let mut database = Entry::file(bytes(items));
    database.meta.mtime = time;
    let mut folder = Entry::directory();
    folder.meta.mtime = time;
    tree.make_parents(DATABASE, &folder);
    tree.insert(DATABASE, database);
    Ok(())
}

/// The language in a file's name: `de` of `systemd.de.catalog`.
fn language(name: &[u8]) -> &[u8] {
    let stem = name.strip_suffix(b".catalog").unwrap_or(name);
    match stem.iter().rposition(|byte| *byte == b'.') {
        Some(dot) if stem.len() - dot - 1 < LANGUAGE => &stem[dot + 1..],
        _ => b"",
    }
}

/// Adds the messages of one file. Fails with a line (from 1) and a reason.
fn import(items: &mut Items, default: &[u8], file: &[u8]) -> Result<(), (usize, &'static str)> {
    let mut current: Option<(Key, Vec<u8>)> = None;
    let mut after_empty = true;
    let mut number = 0;
    for line in file.split(|byte| matches!(byte, b'\n' | 0)) {
        number += 1;
        if line.is_empty() {
            after_empty = true;
            continue;
        }
        if line.starts_with(b"#") || line.starts_with(b";") {
            continue;
        }
        if let Some((id, own)) = heading(line).filter(|_| after_empty) {
            if let Some((key, text)) = current.take() {
                items.finish(key, text, number)?;
            }
            let language = match own {
                Some(own) if (2..LANGUAGE).contains(&own.len()) => own,
                Some(_) => return Err((number, "a language has 2 to 31 bytes")),
                None => default,
            };
            current = Some(((id, language.to_vec()), Vec::new()));
        } else {
            let (_, text) =
                current.as_mut().ok_or((number, "there is text before the first '-- ' and identifier"))?;
            if after_empty {
                text.push(b'\n');
            }
            text.extend(line);
            text.push(b'\n');
        }
        after_empty = false;
    }
    current.map_or(Ok(()), |(key, text)| items.finish(key, text, number))
}

/// Identifier and language of `-- f77379a8490b408bbe5f6940505a777b de`.
fn heading(line: &[u8]) -> Option<([u8; 16], Option<&[u8]>)> {
    let (digits, rest) = line.strip_prefix(b"-- ")?.split_at_checked(32)?;
    let mut id = [0; 16];
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    match rest.split_first() {
        None => Some((id, None)),
        Some((b' ', language)) => Some((id, Some(language.trim_ascii()))),
        Some(_) => None,
    }
}

impl Items {
    fn finish(&mut self, key: Key, text: Vec<u8>, line: usize) -> Result<(), (usize, &'static str)> {
        if text.is_empty() {
            return Err((line, "the message before has no text"));
        }
        match self.places.get(&key) {
            Some(place) => {
                let old = &mut self.texts[*place].1;
                *old = combine(&text, old);
            }
            None => {
                self.places.insert(key.clone(), self.texts.len());
                self.texts.push((key, text));
            }
        }
        Ok(())
    }
}

/// The headers of both, the newer's first, and the newer's body; the older's when there is none.
fn combine(new: &[u8], old: &[u8]) -> Vec<u8> {
    // Headers end at an empty line, which belongs to the body.
    let split = |text: &[u8]| match text.first() {
        Some(b'\n') => 0,
        _ => text.windows(2).position(|pair| pair == b"\n\n").map_or(text.len(), |at| at + 1),
    };
    let (new_head, new_body) = new.split_at(split(new));
    let (old_head, old_body) = old.split_at(split(old));
    [new_head, old_head, if new_body.is_empty() { old_body } else { new_body }].concat()
}

fn bytes(items: Items) -> Vec<u8> {
    let mut texts = Texts { bytes: vec![0], nodes: vec![(0, 0)], edges: HashMap::new() };
    let mut table: Vec<(Key, usize)> =
        items.texts.into_iter().map(|(key, text)| (key, texts.add(&text))).collect();
    table.sort();
    let mut out = b"RHHHKSLP".to_vec();
    for word in [0, HEADER, table.len() as u64, ITEM] {
        out.extend(word.to_le_bytes());
    }
    for ((id, mut language), offset) in table {
        out.extend(id);
        language.resize(LANGUAGE, 0);
        out.extend(language);
        out.extend((offset as u64).to_le_bytes());
    }
    out.extend(texts.bytes);
    out
}

/// Texts one after another with zeros between, and a trie of their last bytes to find ends that are there.
struct Texts {
    bytes: Vec<u8>,
    /// Where each node's text is: start and length.
    nodes: Vec<(usize, usize)>,
    edges: HashMap<(usize, u8), usize>,
}

impl Texts {
    /// Where the text starts, after it was added when no other ends with it.
    fn add(&mut self, text: &[u8]) -> usize {
        let mut node = 0;
        for byte in text.iter().rev().map(Some).chain([None]) {
            let (start, len) = self.nodes[node];
            if byte.is_none() || self.bytes[start..start + len].ends_with(text) {
                return start + len - text.len();
            }
            let Some(byte) = byte else { break };
            match self.edges.get(&(node, *byte)) {
                Some(next) => node = *next,
                None => {
                    self.edges.insert((node, *byte), self.nodes.len());
                    break;
                }
            }
        }
        let start = self.bytes.len();
        self.nodes.push((start, text.len()));
        self.bytes.extend(text);
        self.bytes.push(0);
        start
    }
}

#[cfg(test)]
mod tests {
    use super::{DATABASE, combine, run};
    use crate::rootfs::oracle;
    use kiln_formats::tree::{Entry, Kind, Timestamp, Tree};

    const TIME: Timestamp = Timestamp { secs: 3, nanos: 0 };

    fn tree(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::new();
        for (name, text) in files {
            let path = format!("usr/lib/systemd/catalog/{name}");
            tree.make_parents(&path, &Entry::directory());
            tree.insert(&path, Entry::file(text.as_bytes()));
        }
        tree
    }

    #[test]
    fn messages_are_sorted_and_texts_shared() {
        let (a, b) = ("0".repeat(32), "f".repeat(32));
        let base = format!("# note\n\n-- {b}\nSubject: x\n\nA text\n\n-- {a}\nSubject: x\n\nA text\n");
        let german = format!("-- {a}\nlong Subject: x\n\nA text\n");
        let mut tree = tree(&[("s.catalog", &base), ("s.de.catalog", &german)]);
        run(&mut tree, TIME).unwrap();
        let Kind::File(content) = &tree.get(DATABASE).unwrap().kind else { panic!("no file") };
        let bytes = content.read().unwrap();
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        assert_eq!((word(16), word(24), word(32)), (40, 3, 56));
        assert_eq!(bytes[40..56], [0; 16]);
        assert_eq!(bytes[96 + 16..96 + 19], *b"de\0");
        assert_eq!(bytes[152..168], [255; 16]);
        // "s.catalog" comes before "s.de.catalog"; both its texts are the same.
        let text = "Subject: x\n\nA text\n".len();
        assert_eq!((word(88), word(144), word(200)), (1, 1 + text as u64 + 1, 1));
        assert_eq!(bytes.len(), 208 + 1 + text + 1 + "long ".len() + text + 1);
    }

    #[test]
    fn later_messages_overlay_earlier_ones() {
        assert_eq!(combine(b"A: 1\n\nnew\n", b"B: 2\n\nold\n"), b"A: 1\nB: 2\n\nnew\n");
        assert_eq!(combine(b"A: 1\n", b"B: 2\n\nold\n"), b"A: 1\nB: 2\n\nold\n");
    }

    #[test]
    fn mistakes_are_named() {
        let id = "0".repeat(32);
        for (text, line) in
            [("hello\n".to_owned(), 1), (format!("-- {id}\n\n-- {id}\nx\n"), 3), (format!("-- {id} x\n"), 1)]
        {
            let error = run(&mut tree(&[("s.catalog", &text)]), TIME).unwrap_err();
            assert!(error.to_string().contains(&format!("s.catalog, line {line}:")), "{error}");
        }
    }

    /// Compares with what `journalctl --update-catalog` made in the root.
    #[test]
    #[ignore = "needs a Debian root"]
    fn same_as_journalctl() {
        let root = oracle::root();
        let mut tree = oracle::load(&root);
        tree.remove(DATABASE).unwrap();
        let start = std::time::Instant::now();
        run(&mut tree, TIME).unwrap();
        println!("made in {:?}", start.elapsed());
        oracle::same_file(&tree, &root, DATABASE);
    }
}
