//! Writing an archive from a tree.

use super::{MAGIC, PATH_MAX, TRAILER, kind};
use crate::stream::copy;
use crate::tree::{Content, Entry, Kind, Meta, Tree};
use std::collections::HashMap;
use std::io::{self, Write};

/// Why a tree cannot be written as an archive.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A file is larger than the format's 32-bit size.
    #[error("{path} has {size} bytes; a cpio archive holds files up to 4294967295 bytes")]
    FileTooLarge {
        /// The file.
        path: String,
        /// Its size in bytes.
        size: u64,
    },
    /// The kernel would skip an entry with such a name or target.
    #[error("{path}: its name or link target is longer than the {max} bytes that the kernel unpacks")]
    NameTooLong {
        /// The entry.
        path: String,
        /// The limit in bytes.
        max: usize,
    },
    /// The name would end the archive, be cut at a NUL, or unpack somewhere else.
    #[error("{path:?} cannot be the name of an entry in a cpio archive")]
    BadName {
        /// The entry.
        path: String,
    },
    /// The directory of an entry is missing or not a directory, so that the kernel could not make the entry.
    #[error("{path} has no parent directory in the tree; add it (Tree::make_parents)")]
    NoParent {
        /// The entry.
        path: String,
    },
    /// A hard link names something that is no regular file of the tree.
    #[error("{path} is a hard link to {target}, which is not a regular file of the tree")]
    DanglingLink {
        /// The link.
        path: String,
        /// What it names.
        target: String,
    },
    /// Reading a file's content, or writing the archive, failed.
    #[error("{path}: {source}")]
    Io {
        /// The entry that was being written.
        path: String,
        /// What failed.
        source: io::Error,
    },
}

/// Writes `tree` as one archive, entries in the tree's order, and returns its size in bytes, which is a
/// multiple of 512 as GNU cpio's is.
///
/// # Errors
/// See [`WriteError`]. Bytes may have been written by then.
pub fn write(tree: &Tree, out: &mut impl Write) -> Result<u64, WriteError> {
    write_aligned(tree, 512, out)
}

/// As [`write()`], the end padded with zeros to a multiple of `align` bytes (at least 4), so that a further
/// archive, plain or compressed, can follow.
///
/// # Errors
/// See [`WriteError`]. Bytes may have been written by then.
pub fn write_aligned(tree: &Tree, align: u32, out: &mut impl Write) -> Result<u64, WriteError> {
    let archiver = Archiver::new(tree)?;
    let mut out = Counting { out, count: 0 };
    for (inode, (path, entry)) in (1..).zip(tree.iter()) {
        check(tree, path, entry)?;
        let io = |source| WriteError::Io { path: show(path), source };
        archiver.record(&Named { inode, path, entry }, &mut out).map_err(io)?;
    }
    let end = |source| WriteError::Io { path: show(TRAILER), source };
    let last = Fields { nlink: 1, ..Fields::default() };
    last.write(TRAILER, &mut out).map_err(end)?;
    out.pad(u64::from(align.max(4).next_multiple_of(4))).map_err(end)?;
    Ok(out.count)
}

/// A tree, and the names of each file that has several by the path that holds the content.
struct Archiver<'a> {
    tree: &'a Tree,
    groups: HashMap<&'a [u8], Group<'a>>,
}

/// One file with several names.
struct Group<'a> {
    /// Number of names.
    names: u32,
    /// The number that all names share: that of the first name.
    inode: u32,
    /// GNU cpio attaches the data to the last name only, and expects that when unpacking.
    last: &'a [u8],
}

impl<'a> Archiver<'a> {
    fn new(tree: &'a Tree) -> Result<Self, WriteError> {
        let mut groups: HashMap<&[u8], Group<'_>> = HashMap::new();
        for (path, entry) in tree.iter() {
            let Kind::HardLink(target) = &entry.kind else { continue };
            if !matches!(tree.get(target).map(|entry| &entry.kind), Some(Kind::File(_))) {
                return Err(WriteError::DanglingLink { path: show(path), target: show(target) });
            }
            let group = groups.entry(target).or_insert(Group { names: 1, inode: 0, last: target });
            group.names += 1;
            group.last = group.last.max(path);
        }
        for (inode, (path, entry)) in (1..).zip(tree.iter()) {
            let owner = if let Kind::HardLink(target) = &entry.kind { target } else { path };
            if let Some(group) = groups.get_mut(owner).filter(|group| group.inode == 0) {
                group.inode = inode;
            }
        }
        Ok(Self { tree, groups })
    }
}

fn check(tree: &Tree, path: &[u8], entry: &Entry) -> Result<(), WriteError> {
    let target = if let Kind::Symlink(target) = &entry.kind { target.len() } else { 0 };
    // The kernel counts the name's NUL, not the target's, and both must fit PATH_MAX.
    if path.len() >= PATH_MAX || target >= PATH_MAX {
        return Err(WriteError::NameTooLong { path: show(path), max: PATH_MAX - 1 });
    }
    let bad_part = |part: &[u8]| part.is_empty() || part == b"." || part == b"..";
    let bad_name = !path.is_empty() && path.split(|byte| *byte == b'/').any(bad_part);
    if bad_name || path.contains(&0) || path == TRAILER {
        return Err(WriteError::BadName { path: show(path) });
    }
    if let Kind::File(content) = &entry.kind
        && u32::try_from(content.len()).is_err()
    {
        return Err(WriteError::FileTooLarge { path: show(path), size: content.len() });
    }
    let Some(slash) = path.iter().rposition(|byte| *byte == b'/') else { return Ok(()) };
    match tree.get(&path[..slash]) {
        Some(Entry { kind: Kind::Directory, .. }) => Ok(()),
        _ => Err(WriteError::NoParent { path: show(path) }),
    }
}

/// An entry with the number of its record.
struct Named<'a> {
    inode: u32,
    path: &'a [u8],
    entry: &'a Entry,
}

impl Archiver<'_> {
    fn record<W: Write>(&self, named: &Named<'_>, out: &mut Counting<'_, W>) -> io::Result<()> {
        let Named { inode, path, entry } = *named;
        let owner = if let Kind::HardLink(target) = &entry.kind { target } else { path };
        let entry = self.tree.get(owner).unwrap_or(entry);
        let mut fields = Fields::of(&entry.meta, inode);
        let group = self.groups.get(owner);
        if let Some(group) = group {
            (fields.inode, fields.nlink) = (group.inode, group.names);
        }
        let mut target: &[u8] = &[];
        let mut content = None;
        match &entry.kind {
            Kind::Directory => (fields.mode, fields.nlink) = (fields.mode | kind::DIRECTORY, 2),
            Kind::File(bytes) => {
                fields.mode |= kind::FILE;
                content = Some(bytes).filter(|_| group.is_none_or(|group| group.last == path));
            }
            // The owner of a link is a file: Archiver::new saw to it.
            Kind::HardLink(_) => fields.mode |= kind::FILE,
            Kind::Symlink(bytes) => {
                fields.mode |= kind::SYMLINK;
                target = bytes;
            }
            Kind::CharDevice { major, minor } => {
                fields.mode |= kind::CHAR;
                fields.rdev = (*major, *minor);
            }
            Kind::BlockDevice { major, minor } => {
                fields.mode |= kind::BLOCK;
                fields.rdev = (*major, *minor);
            }
            Kind::Fifo => fields.mode |= kind::FIFO,
            Kind::Socket => fields.mode |= kind::SOCKET,
        }
        let size = content.map_or(target.len() as u64, Content::len);
        fields.size = u32::try_from(size).map_err(|_| io::ErrorKind::FileTooLarge)?;
        fields.write(if path.is_empty() { b"." } else { path }, out)?;
        out.write_all(target)?;
        if let Some(content) = content {
            copy(content, out)?;
        }
        out.pad(4)
    }
}

/// The fields of a header that are not always zero.
#[derive(Default)]
struct Fields {
    inode: u32,
    mode: u32,
    uid: u32,
    gid: u32,
    nlink: u32,
    mtime: u32,
    size: u32,
    rdev: (u32, u32),
}

impl Fields {
    fn of(meta: &Meta, inode: u32) -> Self {
        let mtime = meta.mtime.secs.clamp(0, i64::from(u32::MAX));
        Self {
            inode,
            mode: u32::from(meta.mode & 0o7777),
            uid: meta.uid,
            gid: meta.gid,
            nlink: 1,
            mtime: u32::try_from(mtime).unwrap_or(u32::MAX),
            ..Self::default()
        }
    }

    /// Header, name and the padding before the data.
    fn write<W: Write>(&self, name: &[u8], out: &mut Counting<'_, W>) -> io::Result<()> {
        let name_size = u32::try_from(name.len() + 1).map_err(|_| io::ErrorKind::InvalidInput)?;
        let Self { inode, mode, uid, gid, nlink, mtime, size, rdev: (major, minor) } = *self;
        out.write_all(MAGIC)?;
        for field in [inode, mode, uid, gid, nlink, mtime, size, 0, 0, major, minor, name_size, 0] {
            write!(out, "{field:08X}")?;
        }
        out.write_all(name)?;
        out.write_all(&[0])?;
        out.pad(4)
    }
}

/// Counts what goes through, for padding.
struct Counting<'a, W> {
    out: &'a mut W,
    count: u64,
}

impl<W: Write> Counting<'_, W> {
    fn pad(&mut self, align: u64) -> io::Result<()> {
        let zeros = self.count.next_multiple_of(align) - self.count;
        io::copy(&mut io::Read::take(io::repeat(0), zeros), self).map(drop)
    }
}

impl<W: Write> Write for Counting<'_, W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let written = self.out.write(buf)?;
        self.count += written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn show(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
