//! The file tree: what a package unpacks to, what finalisers change and what file system writers write.
//!
//! Paths are bytes without a leading slash (`usr/bin/sh`); the root directory is the empty path. The map is
//! sorted by path, so a directory always comes before what it holds.

use crate::io::ReadAt;
use std::collections::BTreeMap;
use std::io::Result;
use std::sync::Arc;

/// A path inside the tree: bytes, no leading or trailing slash, no `.` or `..`, empty for the root.
pub type Path = Box<[u8]>;

/// A point in time: seconds since the epoch and nanoseconds (0 to 999,999,999) within the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub secs: i64,
    /// Nanoseconds within the second.
    pub nanos: u32,
}

/// What every kind of entry has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// Permission bits with setuid, setgid and sticky (at most 0o7777).
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time; writers use it for access and change time, too.
    pub mtime: Timestamp,
    /// Extended attributes by full name (`security.capability`, `user.x`), values as getxattr(2) gives
    /// them: a POSIX ACL is the version 2 form of Linux' `posix_acl_xattr.h`, whatever the disk wants.
    pub xattrs: BTreeMap<Box<[u8]>, Box<[u8]>>,
}

/// The bytes of a regular file.
#[derive(Debug, Clone)]
pub enum Content {
    /// Bytes in memory.
    Bytes(Arc<[u8]>),
    /// `len` bytes of `source` from `offset`: a member of an archive that lies on disk.
    Extern {
        /// Where the bytes are.
        source: Arc<dyn ReadAt>,
        /// First byte in the source.
        offset: u64,
        /// Number of bytes.
        len: u64,
    },
}

impl Content {
    /// Bytes in memory, from anything that can be copied into an `Arc`.
    pub fn bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self::Bytes(bytes.into())
    }

    /// The size in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Extern { len, .. } => *len,
        }
    }

    /// True when the file has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All bytes in memory, where there are no more than `most`: what a file claims may be anything.
    pub fn read_at_most(&self, most: u64) -> Result<Vec<u8>> {
        if self.len() > most {
            let said = format!("it has {} bytes, more than the {most} that it can have", self.len());
            return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, said));
        }
        self.read()
    }

    /// All bytes in memory; for files known to be small.
    pub fn read(&self) -> Result<Vec<u8>> {
        let len = usize::try_from(self.len()).map_err(|_| std::io::ErrorKind::FileTooLarge)?;
        let mut buf = vec![0; len];
        self.read_exact_at(&mut buf, 0)?;
        Ok(buf)
    }

    /// Fills `buf` from `offset` (bytes) of the file. Fails with `UnexpectedEof` past its end.
    pub fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let eof = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        let end = offset.checked_add(buf.len() as u64).ok_or_else(eof)?;
        if end > self.len() {
            return Err(eof());
        }
        match self {
            Self::Bytes(bytes) => {
                let start = usize::try_from(offset).map_err(|_| eof())?;
                buf.copy_from_slice(&bytes[start..start + buf.len()]);
                Ok(())
            }
            Self::Extern { source, offset: base, .. } => source.read_exact_at(buf, base + offset),
        }
    }
}

impl ReadAt for Content {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        Self::read_exact_at(self, buf, offset)
    }
    fn size(&self) -> Result<u64> {
        Ok(self.len())
    }
}

/// What an entry is.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A directory; what it holds are the entries below its path.
    Directory,
    /// A regular file.
    File(Content),
    /// A symbolic link to a target (bytes as written).
    Symlink(Box<[u8]>),
    /// Another name of the regular file at this path; metadata is that file's.
    HardLink(Path),
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// A name in the tree.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Owner, mode, time, attributes.
    pub meta: Meta,
    /// Kind and content.
    pub kind: Kind,
}

impl Entry {
    /// An entry with mode `mode`, owned by root, at time 0.
    pub fn new(kind: Kind, mode: u16) -> Self {
        Self { meta: Meta { mode, ..Meta::default() }, kind }
    }
    /// A directory, mode 0755, root's.
    pub fn directory() -> Self {
        Self::new(Kind::Directory, 0o755)
    }
    /// A regular file with these bytes, mode 0644, root's.
    pub fn file(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self::new(Kind::File(Content::bytes(bytes)), 0o644)
    }
    /// A symbolic link, root's.
    pub fn symlink(target: &(impl AsRef<[u8]> + ?Sized)) -> Self {
        Self::new(Kind::Symlink(target.as_ref().into()), 0o777)
    }
}

/// A file tree.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    entries: BTreeMap<Path, Entry>,
}

impl Tree {
    /// A tree with no entry, not even the root directory.
    pub fn new() -> Self {
        Self::default()
    }
    /// The entry at `path`, symbolic links not followed.
    pub fn get(&self, path: &(impl AsRef<[u8]> + ?Sized)) -> Option<&Entry> {
        self.entries.get(path.as_ref())
    }
    /// The entry at `path` for changing.
    pub fn get_mut(&mut self, path: &(impl AsRef<[u8]> + ?Sized)) -> Option<&mut Entry> {
        self.entries.get_mut(path.as_ref())
    }
    /// True when there is an entry at `path`.
    pub fn contains(&self, path: &(impl AsRef<[u8]> + ?Sized)) -> bool {
        self.entries.contains_key(path.as_ref())
    }
    /// Puts an entry at `path` and returns the one that was there. Parents are not made; see
    /// [`Tree::make_parents`].
    pub fn insert(&mut self, path: &(impl AsRef<[u8]> + ?Sized), entry: Entry) -> Option<Entry> {
        self.entries.insert(path.as_ref().into(), entry)
    }
    /// Takes the entry at `path` out; what lies below stays.
    pub fn remove(&mut self, path: &(impl AsRef<[u8]> + ?Sized)) -> Option<Entry> {
        self.entries.remove(path.as_ref())
    }
    /// All entries, sorted by path bytes.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_ref(), entry))
    }
    /// All entries for changing, sorted by path bytes.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&[u8], &mut Entry)> {
        self.entries.iter_mut().map(|(path, entry)| (path.as_ref(), entry))
    }
    /// The entries strictly below `directory`, at any depth, sorted.
    pub fn below<'a>(&'a self, directory: &str) -> impl Iterator<Item = (&'a [u8], &'a Entry)> {
        let mut prefix = directory.as_bytes().to_vec();
        if !prefix.is_empty() {
            prefix.push(b'/');
        }
        let start: Path = prefix.clone().into();
        self.entries
            .range(start..)
            .map(|(path, entry)| (path.as_ref(), entry))
            .take_while(move |(path, _)| path.starts_with(&prefix))
            .filter(|(path, _)| !path.is_empty())
    }
    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
    /// True when there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
    /// Makes every missing parent directory of `path` (and the root), as copies of `like`.
    pub fn make_parents(&mut self, path: &(impl AsRef<[u8]> + ?Sized), like: &Entry) {
        let path = path.as_ref();
        self.entries.entry(Path::default()).or_insert_with(|| like.clone());
        for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            self.entries.entry(path[..at].into()).or_insert_with(|| like.clone());
        }
    }
}
