//! Writing a volume from a tree.

use super::directory::{Record, path_record, place, record_length};
use super::volume::{Descriptor, View, terminator};
use super::{SECTOR, names, time};
use crate::io::WriteAt;
use crate::stream::copy_at;
use crate::tree::{Content, Kind, Timestamp, Tree};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// The first descriptor is behind the system area (ECMA-119 §6.2.1).
const DESCRIPTORS: u32 = 16;
/// Levels of directories, the root among them (ECMA-119 §6.8.2.1).
const LEVELS: usize = 8;

/// What a volume shall be.
#[derive(Debug, Clone)]
pub struct Options<'a> {
    /// At most 16 of capitals, digits and `_`: what both trees of directories can hold.
    pub label: &'a str,
    /// When the volume was made.
    pub created: Timestamp,
}

/// Why a tree can't be written as a volume.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The label.
    #[error("{0:?} can't be the label of an ISO 9660 volume: at most 16 of capital letters, digits and _")]
    BadLabel(String),
    /// ISO 9660 as it is written here has directories and regular files only.
    #[error("{0} is neither a directory nor a regular file, and that is all that ISO 9660 holds")]
    Unsupported(String),
    /// The name of an entry.
    #[error("{path:?} can't be on an ISO 9660 volume: {why}")]
    BadName {
        /// The entry.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The directory of an entry is missing, or not a directory.
    #[error("{0} has no parent directory in the tree; add it (Tree::make_parents)")]
    NoParent(String),
    /// A file of 4 GiB or more, too many directories, or a volume beyond 2³² sectors.
    #[error("{0} is too large for an ISO 9660 volume")]
    TooLarge(String),
    /// Reading a file's content, or writing the volume, failed.
    #[error("{path}: {source}")]
    Io {
        /// What was being written.
        path: String,
        /// What failed.
        source: io::Error,
    },
}

/// Writes `tree` as a volume and returns its size in bytes, a multiple of 2048. The root directory's entry is not needed.
/// What stays zero is not written: the target is empty, and its length is the caller's to set.
///
/// # Errors
/// See [`WriteError`]. Nothing is written before the whole tree has its place.
pub fn write<W: WriteAt + ?Sized>(
    tree: &Tree,
    options: &Options<'_>,
    out: &mut W,
) -> Result<u64, WriteError> {
    let fits = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    if options.label.is_empty() || options.label.len() > 16 || !options.label.chars().all(fits) {
        return Err(WriteError::BadLabel(options.label.to_owned()));
    }
    let directories = sorted(tree)?;
    let primary = Half::of(&directories, View::Primary)?;
    let joliet = Half::of(&directories, View::Joliet)?;
    let mut next = DESCRIPTORS + 3;
    let mut take = |bytes: u64| {
        let first = next;
        let count = u32::try_from(bytes.div_ceil(SECTOR as u64)).ok();
        next = count.and_then(|count| next.checked_add(count))?;
        Some(first)
    };
    let whole = || WriteError::TooLarge("the volume".to_owned());
    let mut halves = [primary, joliet];
    for half in &mut halves {
        half.tables =
            (take(half.table_size()).ok_or_else(whole)?, take(half.table_size()).ok_or_else(whole)?);
    }
    for directory in halves.iter_mut().flat_map(|half| &mut half.directories) {
        directory.sector = take(directory.size as u64).ok_or_else(whole)?;
    }
    let mut files = BTreeMap::new();
    for (path, entry) in tree.iter() {
        if let Kind::File(content) = &entry.kind {
            // An empty file has no sectors, and the number of its first one means nothing (ECMA-119 §9.1.3).
            let sector = if content.is_empty() { 0 } else { take(content.len()).ok_or_else(whole)? };
            files.insert(path, (content, sector));
        }
    }
    let mut disc = Disc { options, sectors: next, files, out };
    disc.write(&halves)?;
    Ok(u64::from(next) * SECTOR as u64)
}

/// An entry of a directory.
struct Child<'a> {
    path: &'a [u8],
    name: &'a str,
    directory: bool,
    time: Timestamp,
}

/// Every directory by its path, with its time and its entries.
type Directories<'a> = BTreeMap<&'a [u8], (Timestamp, Vec<Child<'a>>)>;

fn sorted(tree: &Tree) -> Result<Directories<'_>, WriteError> {
    let mut directories = Directories::new();
    directories.insert(b"", (Timestamp::default(), Vec::new()));
    for (path, entry) in tree.iter() {
        let directory = match &entry.kind {
            Kind::Directory => true,
            Kind::File(content) if content.len() > u64::from(u32::MAX) => {
                return Err(WriteError::TooLarge(show(path)));
            }
            Kind::File(_) if !path.is_empty() => false,
            _ => return Err(WriteError::Unsupported(show(path))),
        };
        let time = entry.meta.mtime;
        if path.is_empty() {
            directories.insert(b"", (time, Vec::new()));
            continue;
        }
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&b""[..], path),
        };
        let bad = |why| WriteError::BadName { path: show(path), why };
        let name = std::str::from_utf8(name).map_err(|_| bad("it is not UTF-8"))?;
        if let Some(why) = names::fault(name) {
            return Err(bad(why));
        }
        if directory && path.split(|byte| *byte == b'/').count() >= LEVELS {
            return Err(bad("its directory is more than eight levels deep"));
        }
        let home = directories.get_mut(parent).ok_or_else(|| WriteError::NoParent(show(path)))?;
        home.1.push(Child { path, name, directory, time });
        if directory {
            directories.insert(path, (time, Vec::new()));
        }
    }
    Ok(directories)
}

/// A directory in one of the two trees.
struct Directory<'a> {
    path: &'a [u8],
    identifier: Vec<u8>,
    /// Number in the path table of the directory that it is in, from 1 (ECMA-119 §9.4.4).
    parent: u16,
    time: Timestamp,
    /// Its entries with their names here, in the order of the standard.
    children: Vec<(&'a Child<'a>, Vec<u8>)>,
    /// Where its records begin, `.` and `..` first.
    starts: Vec<usize>,
    /// Bytes.
    size: usize,
    sector: u32,
}

/// One of the two trees of directories, in the order of its path table.
struct Half<'a> {
    view: View,
    directories: Vec<Directory<'a>>,
    tables: (u32, u32),
}

impl<'a> Half<'a> {
    fn of(all: &'a Directories<'a>, view: View) -> Result<Self, WriteError> {
        // Level by level, so that a parent comes before its children, and those in its order (ECMA-119 §6.9.1).
        let mut directories = vec![Directory::new(all, (&b""[..], vec![0]), 1, view)];
        let mut at = 0;
        while let Some(directory) = directories.get(at) {
            let number = u16::try_from(at + 1);
            let number = number.map_err(|_| WriteError::TooLarge("the table of directories".to_owned()))?;
            let below = directory.children.iter().filter(|(child, _)| child.directory);
            let below: Vec<_> = below
                .map(|(child, name)| Directory::new(all, (child.path, name.clone()), number, view))
                .collect();
            directories.extend(below);
            at += 1;
        }
        Ok(Self { view, directories, tables: (0, 0) })
    }

    fn table(&self, big: bool) -> Vec<u8> {
        let records = self.directories.iter();
        records.flat_map(|d| path_record((&d.identifier, d.sector, d.parent), big)).collect()
    }

    fn table_size(&self) -> u64 {
        self.table(false).len() as u64
    }
}

impl<'a> Directory<'a> {
    fn new(
        all: &'a Directories<'a>,
        (path, identifier): (&'a [u8], Vec<u8>),
        parent: u16,
        view: View,
    ) -> Self {
        let mut taken = BTreeSet::new();
        let (time, entries) = all.get(path).map_or((Timestamp::default(), &[][..]), |(t, c)| (*t, &c[..]));
        let mut children: Vec<(&Child<'_>, Vec<u8>)> = entries
            .iter()
            .map(|child| match view {
                View::Primary => (child, names::primary(child.name, child.directory, &mut taken)),
                View::Joliet => (child, names::joliet(child.name)),
            })
            .collect();
        match view {
            View::Primary => children.sort_by_key(|(child, name)| names::key(name, child.directory)),
            View::Joliet => children.sort_by(|(_, one), (_, other)| one.cmp(other)),
        }
        let lengths = [record_length(&[0]), record_length(&[1])];
        let (starts, size) =
            place(lengths.into_iter().chain(children.iter().map(|(_, name)| record_length(name))));
        Self { path, identifier, parent, time, children, starts, size, sector: 0 }
    }

    fn extent(&self) -> (u32, u32) {
        (self.sector, u32::try_from(self.size).unwrap_or(u32::MAX))
    }
}

/// What is left to do when everything has its place.
struct Disc<'a, W: ?Sized> {
    options: &'a Options<'a>,
    sectors: u32,
    files: BTreeMap<&'a [u8], (&'a Content, u32)>,
    out: &'a mut W,
}

impl<W: WriteAt + ?Sized> Disc<'_, W> {
    fn write(&mut self, halves: &[Half<'_>; 2]) -> Result<(), WriteError> {
        // The last sector is there whole, whatever file ends in it.
        self.put(self.sectors - 1, &[0; SECTOR])?;
        for (half, sector) in halves.iter().zip(DESCRIPTORS..) {
            let root = &half.directories[0];
            let record = Record {
                identifier: &[0],
                extent: root.extent(),
                date: time::short(root.time),
                directory: true,
            };
            let descriptor = Descriptor {
                view: half.view,
                label: self.options.label,
                sectors: self.sectors,
                table: (u32::try_from(half.table_size()).unwrap_or(u32::MAX), half.tables.0, half.tables.1),
                root: &record.bytes(),
                created: self.options.created,
            };
            self.put(sector, &descriptor.bytes())?;
            self.put(half.tables.0, &half.table(false))?;
            self.put(half.tables.1, &half.table(true))?;
            for directory in &half.directories {
                let bytes = self.directory(half, directory);
                self.put(directory.sector, &bytes)?;
            }
        }
        self.put(DESCRIPTORS + 2, &terminator())?;
        for (path, (content, sector)) in std::mem::take(&mut self.files) {
            let io = |source| WriteError::Io { path: show(path), source };
            copy_at(content, self.out, offset(sector)).map_err(io)?;
        }
        Ok(())
    }

    fn directory(&self, half: &Half<'_>, directory: &Directory<'_>) -> Vec<u8> {
        let mut bytes = vec![0; directory.size];
        let above = half.directories.get(usize::from(directory.parent) - 1).unwrap_or(directory);
        let own = [(&[0][..], directory), (&[1][..], above)].map(|(identifier, of)| {
            let date = time::short(of.time);
            Record { identifier, extent: of.extent(), date, directory: true }.bytes()
        });
        let children = directory.children.iter().map(|(child, identifier)| {
            let extent = match self.files.get(child.path) {
                Some((content, sector)) => (*sector, u32::try_from(content.len()).unwrap_or(u32::MAX)),
                None => half
                    .directories
                    .iter()
                    .find(|other| other.path == child.path)
                    .map_or((0, 0), Directory::extent),
            };
            let date = time::short(child.time);
            Record { identifier, extent, date, directory: child.directory }.bytes()
        });
        for (record, start) in own.into_iter().chain(children).zip(&directory.starts) {
            bytes[*start..start + record.len()].copy_from_slice(&record);
        }
        bytes
    }

    fn put(&mut self, sector: u32, bytes: &[u8]) -> Result<(), WriteError> {
        let io = |source| WriteError::Io { path: "the volume".to_owned(), source };
        self.out.write_all_at(bytes, offset(sector)).map_err(io)
    }
}

fn offset(sector: u32) -> u64 {
    u64::from(sector) * SECTOR as u64
}

fn show(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
