//! `usr/lib/udev/hwdb.bin`: what udev knows about hardware, as `systemd-hwdb update --usr` of systemd 257
//! (Debian trixie) makes it from the texts of hwdb(7), byte for byte.
//!
//! Behaviour follows systemd's src/shared/hwdb-util.c: it warns about lines that it does not understand and
//! goes on, so mistakes in those texts are no errors here.

mod lines;
#[cfg(test)]
mod tests;
mod trie;

use kiln_formats::path;
use kiln_formats::tree::{Content, Entry, Kind, Timestamp, Tree};
use lines::{Lines, State};
use std::collections::BTreeMap;
use trie::{Place, Trie};

const DATABASE: &str = "usr/lib/udev/hwdb.bin";
/// In the package `udev`, whose script makes the database.
const TOOL: &str = "usr/bin/systemd-hwdb";
/// A file's name in the earlier one hides the same name in the later.
const FOLDERS: [&str; 2] = ["etc/udev/hwdb.d", "usr/lib/udev/hwdb.d"];

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
}

/// A text that counts: the name that the database has for it, and what is in it.
struct Source<'a> {
    path: Vec<u8>,
    /// Nothing for links that lead nowhere and for what is no regular file.
    content: Option<&'a Content>,
}

/// Writes the database of a root that has udev, dated `time`; takes an old one away when there are no texts.
///
/// # Errors
/// Only when a text's bytes can't be read.
pub fn run(tree: &mut Tree, time: Timestamp) -> Result<(), Error> {
    if !tree.contains(TOOL) {
        return Ok(());
    }
    let Some(bytes) = database(tree, b"/")? else {
        tree.remove(DATABASE);
        return Ok(());
    };
    let mut database = Entry::new(Kind::File(Content::bytes(bytes)), 0o444);
    database.meta.mtime = time;
    let mut folder = Entry::directory();
    folder.meta.mtime = time;
    tree.make_parents(DATABASE, &folder);
    tree.insert(DATABASE, database);
    Ok(())
}

/// The database, or nothing without texts. Paths in it start with `root`.
fn database(tree: &Tree, root: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    let files = sources(tree);
    if files.is_empty() {
        return Ok(None);
    }
    let mut trie = Trie::default();
    for (priority, Source { path, content }) in (1_usize..).zip(files) {
        let Some(content) = content else { continue };
        let bytes = content
            .read()
            .map_err(|source| Error::Read { path: String::from_utf8_lossy(&path).into_owned(), source })?;
        let name = [root, &path].concat();
        #[expect(clippy::cast_possible_truncation, reason = "systemd's counter has 16 bits and wraps, too")]
        import(&mut trie, &bytes, &name, priority as u16);
    }
    Ok(Some(trie.into_bytes()))
}

/// The texts in the order in which they are read, which is that of their names.
fn sources(tree: &Tree) -> Vec<Source<'_>> {
    let mut files = BTreeMap::new();
    for folder in FOLDERS {
        let Some(folder) = path::directory(tree, folder.as_bytes()) else { continue };
        for (name, _) in path::children(tree, &folder) {
            if name.ends_with(b".hwdb") {
                files.entry(name).or_insert_with(|| {
                    let path = [&folder, b"/".as_slice(), name].concat();
                    let content = path::file(tree, &path).map(|(_, content)| content);
                    Source { path, content }
                });
            }
        }
    }
    files.into_values().collect()
}

/// Adds the records of one text.
fn import(trie: &mut Trie, text: &[u8], file: &[u8], priority: u16) {
    let mut matches: Vec<&[u8]> = Vec::new();
    let mut state = State::None;
    for (line, text) in (1..).zip(Lines(text)) {
        let Some(text) = lines::strip(text) else { continue };
        let indented = text.starts_with(b" ");
        state = match state {
            State::None if text.is_empty() || indented => State::None,
            State::None | State::Matches if !text.is_empty() && !indented => {
                matches.push(text);
                State::Matches
            }
            State::Matches | State::Properties if indented => {
                if let Some((key, value)) = lines::property(text) {
                    for found in &matches {
                        trie.insert(found, (key, value), &Place { file, line, priority });
                    }
                }
                State::Properties
            }
            // A record without properties, the end of one, or a line that takes the rest of its record with it.
            _ => {
                matches.clear();
                State::None
            }
        };
    }
}
