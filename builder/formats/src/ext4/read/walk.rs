//! The whole tree, and one entry of it.

use super::super::format::{index, ino};
use super::super::inode::{FLAG_ENCRYPT, FLAG_EXTENTS, decode_device, mode};
use super::super::inventory::FAST_SYMLINK;
use super::extents::{Budget, Pieces};
use super::inodes::Found;
use super::{FileSystem, ReadError};
use crate::tree::{Content, Entry, Kind, Meta, Path, Tree};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Longer paths than this are no use to anyone and a burden to keep.
const MAX_PATH: usize = 65535;

/// Bytes that an entry takes in the tree and on the way to it, beside its path and attributes.
const ENTRY_COST: usize = 256;

/// A name in the tree, before its inode is read.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    path: Path,
    number: u32,
    is_directory: bool,
}

impl FileSystem {
    /// All entries, lost+found with them. Of several names of one file the first in order is the file, the
    /// others are hard links to it. Contents are read when asked for, from the same source.
    ///
    /// # Errors
    /// [`ReadError`] at the first thing that is damaged or not supported.
    pub fn tree(&self) -> Result<Tree, ReadError> {
        let mut budget = self.budget();
        let mut tree = Tree::new();
        let mut first: HashMap<u32, Path> = HashMap::new();
        for Named { path, number, is_directory } in self.paths(&mut budget)? {
            if let Some(target) = first.get(&number) {
                let entry = tree.get(target).map(|entry| entry.meta.clone());
                budget.spend(0, cost(target, entry.as_ref()), number)?;
                let entry = Entry { meta: entry.unwrap_or_default(), kind: Kind::HardLink(target.clone()) };
                tree.insert(&path, entry);
                continue;
            }
            let entry = self.entry(&self.inode(number)?, &mut budget)?;
            if is_directory != matches!(entry.kind, Kind::Directory) {
                return Err(ReadError::Corrupt { what: "file type of inode", at: u64::from(number) });
            }
            budget.spend(0, cost(b"", Some(&entry.meta)), number)?;
            if !matches!(entry.kind, Kind::Directory) {
                first.insert(number, path.clone());
            }
            tree.insert(&path, entry);
        }
        Ok(tree)
    }

    /// The entry at `path` (symbolic links not followed, hard links as the file), or `None`.
    ///
    /// # Errors
    /// [`ReadError`] when something on the way is damaged or not supported.
    pub fn lookup(&self, path: &(impl AsRef<[u8]> + ?Sized)) -> Result<Option<Entry>, ReadError> {
        let mut budget = self.budget();
        let mut number = ino::ROOT;
        for part in path.as_ref().split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            let found = self.inode(number)?;
            if found.inode.mode & mode::TYPE != mode::DIRECTORY {
                return Ok(None);
            }
            // A path may pass one directory once only, so that the budget of one walk does here, too.
            match self.names(&found, &mut budget)?.into_iter().find(|name| *name.name == *part) {
                Some(name) => number = name.inode,
                None => return Ok(None),
            }
        }
        Ok(Some(self.entry(&self.inode(number)?, &mut self.budget())?))
    }

    /// The bytes of the regular file at `path`, or `None` when there is no such file.
    ///
    /// # Errors
    /// [`ReadError::TooLarge`] for a file of more than `limit` bytes, and as [`FileSystem::lookup`].
    pub fn read_file(
        &self,
        path: &(impl AsRef<[u8]> + ?Sized),
        limit: u64,
    ) -> Result<Option<Vec<u8>>, ReadError> {
        match self.lookup(path)?.map(|entry| entry.kind) {
            Some(Kind::File(content)) if content.len() > limit => {
                Err(ReadError::TooLarge { len: content.len(), limit })
            }
            Some(Kind::File(content)) => {
                content.read().map(Some).map_err(|source| ReadError::Source { offset: 0, source })
            }
            _ => Ok(None),
        }
    }

    /// Paths and inodes of all entries, sorted by path.
    fn paths(&self, budget: &mut Budget) -> Result<Vec<Named>, ReadError> {
        let mut paths = vec![Named { path: Path::default(), number: ino::ROOT, is_directory: true }];
        let mut seen = HashSet::from([ino::ROOT]);
        let mut todo = vec![(Path::default(), ino::ROOT)];
        while let Some((above, number)) = todo.pop() {
            let found = self.inode(number)?;
            for name in self.names(&found, budget)? {
                let slash = if above.is_empty() { &b""[..] } else { b"/" };
                let path: Path = [&above, slash, &name.name].concat().into();
                budget.spend(0, cost(&path, None), number)?;
                // A directory with two names is a loop, or could be one.
                let again = name.is_directory && !seen.insert(name.inode);
                if again || path.len() > MAX_PATH {
                    return Err(ReadError::Corrupt { what: "directory with inode", at: u64::from(number) });
                }
                if name.is_directory {
                    todo.push((path.clone(), name.inode));
                }
                paths.push(Named { path, number: name.inode, is_directory: name.is_directory });
            }
        }
        paths.sort_unstable();
        match paths.windows(2).find(|pair| pair[0].path == pair[1].path) {
            Some(pair) => Err(ReadError::Corrupt {
                what: "two entries of one name, inode",
                at: u64::from(pair[1].number),
            }),
            None => Ok(paths),
        }
    }

    fn entry(&self, found: &Found, budget: &mut Budget) -> Result<Entry, ReadError> {
        let inode = &found.inode;
        let corrupt = || ReadError::Corrupt { what: "inode", at: u64::from(found.number) };
        if inode.flags & FLAG_ENCRYPT != 0 {
            return Err(ReadError::Unsupported("encrypted files"));
        }
        let (major, minor) = decode_device(&inode.block);
        let kind = match inode.mode & mode::TYPE {
            mode::DIRECTORY => Kind::Directory,
            mode::REGULAR => Kind::File(self.content(found, budget)?),
            mode::SYMLINK => Kind::Symlink(self.symlink(found, budget)?),
            mode::CHAR => Kind::CharDevice { major, minor },
            mode::BLOCK => Kind::BlockDevice { major, minor },
            mode::FIFO => Kind::Fifo,
            mode::SOCKET => Kind::Socket,
            _ => return Err(corrupt()),
        };
        let meta = Meta {
            mode: inode.mode & 0o7777,
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime.get(),
            xattrs: self.xattrs(found)?,
        };
        Ok(Entry { meta, kind })
    }

    /// A file's content: in place where it lies in one run.
    fn content(&self, found: &Found, budget: &mut Budget) -> Result<Content, ReadError> {
        let len = found.inode.size;
        // A file's blocks are counted with 32 bits (ifork.rst, `ee_block`).
        if len > self.block_size << 32 {
            return Err(ReadError::Corrupt { what: "inode", at: u64::from(found.number) });
        }
        let pieces = self.pieces(found, budget)?;
        Ok(match pieces.as_slice() {
            _ if len == 0 => Content::bytes([]),
            [piece] if piece.at == 0 && piece.len >= len => {
                Content::Extern { source: Arc::clone(&self.source), offset: piece.start, len }
            }
            _ => {
                let source = Arc::new(Pieces { source: Arc::clone(&self.source), pieces, len });
                Content::Extern { source, offset: 0, len }
            }
        })
    }

    fn symlink(&self, found: &Found, budget: &mut Budget) -> Result<Box<[u8]>, ReadError> {
        let len = index(found.inode.size);
        let corrupt = ReadError::Corrupt { what: "inode", at: u64::from(found.number) };
        if found.inode.flags & FLAG_EXTENTS == 0 && len < FAST_SYMLINK {
            return Ok(found.inode.block[..len].into());
        }
        if len as u64 >= self.block_size {
            return Err(corrupt);
        }
        let content = self.content(found, budget)?;
        Ok(content.read().map_err(|source| ReadError::Source { offset: 0, source })?.into())
    }
}

/// Bytes that keeping a path and its attributes takes, roughly.
fn cost(path: &[u8], meta: Option<&Meta>) -> u64 {
    let xattrs =
        meta.map_or(0, |meta| meta.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum());
    let fixed = if path.is_empty() { 0 } else { ENTRY_COST };
    (fixed + path.len() + xattrs) as u64
}
