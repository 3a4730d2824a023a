//! The tree as inodes: numbers, links, names per directory, everything judged before a byte is written.

use super::dir::{Child, Directory};
use super::error::{Error, shown};
use super::format::{BLOCK_BYTES, MAX_INODES, ino};
use super::inode::{self, Time, mode};
use super::xattr::{self, Stored};
use crate::tree::{Content, Entry, Kind, Meta, Timestamp, Tree};
use std::borrow::Cow;
use std::collections::HashMap;

/// The most names of one file (`EXT4_LINK_MAX`); a directory with more subdirectories counts 1 (`dir_nlink`).
const MAX_LINKS: u32 = 65000;
/// A symbolic link shorter than this lies in the inode (ifork.rst, "Symbolic Links").
pub(super) const FAST_SYMLINK: usize = 60;

/// What an inode is.
#[derive(Debug)]
pub(super) enum Body<'t> {
    Directory(Directory<'t>),
    File(&'t Content),
    Symlink(&'t [u8]),
    /// Device, pipe or socket: its type in `i_mode`, and `i_block`.
    Special(u16, [u8; 60]),
}

/// An inode to be written.
#[derive(Debug)]
pub(super) struct Node<'t> {
    pub(super) path: &'t [u8],
    pub(super) meta: Cow<'t, Meta>,
    pub(super) time: Time,
    pub(super) links: u32,
    pub(super) body: Body<'t>,
    pub(super) xattrs: Stored,
}

/// All inodes that hold entries of the tree: the root, lost+found, then the others in order of paths.
#[derive(Debug)]
pub(super) struct Inventory<'t> {
    pub(super) nodes: Vec<Node<'t>>,
    pub(super) created: Time,
}

/// The inode number of a node.
pub(super) fn number(index: usize) -> u32 {
    match index {
        0 => ino::ROOT,
        // `Inventory::new` bounds the number of entries.
        index => u32::try_from(index).unwrap_or(u32::MAX - ino::LOST_FOUND) + ino::LOST_FOUND - 1,
    }
}

/// The node of an inode number.
fn index(number: u32) -> usize {
    if number == ino::ROOT { 0 } else { (number + 1 - ino::LOST_FOUND) as usize }
}

const LOST_FOUND: &[u8] = b"lost+found";

impl<'t> Inventory<'t> {
    pub(super) fn new(tree: &'t Tree, created: Timestamp) -> Result<Self, Error> {
        if tree.len() as u64 > u64::from(MAX_INODES) - 16 {
            return Err(Error::TooManyEntries { entries: tree.len() });
        }
        let mut this = Self {
            nodes: Vec::with_capacity(tree.len() + 2),
            created: Time::new(created).ok_or(Error::BadTime {
                path: "created".to_owned(),
                secs: created.secs,
                nanos: created.nanos,
            })?,
        };
        for (path, mode) in [(&b""[..], 0o755), (LOST_FOUND, 0o700)] {
            let node = match tree.get(path) {
                Some(entry) => this.node(path, entry)?,
                None => this.default_directory(path, Meta { mode, mtime: created, ..Meta::default() }),
            };
            if !matches!(node.body, Body::Directory(_)) {
                return Err(Error::NotADirectory { path: shown(path) });
            }
            this.nodes.push(node);
        }
        let mut directories = HashMap::from([(&b""[..], ino::ROOT), (LOST_FOUND, ino::LOST_FOUND)]);
        this.adopt(ino::ROOT, LOST_FOUND, ino::LOST_FOUND);
        let mut links = Vec::new();
        for (path, entry) in tree.iter().filter(|(path, _)| !path.is_empty() && *path != LOST_FOUND) {
            let (above, name) = split(path)?;
            let Some(&parent) = directories.get(above) else {
                let path = shown(if tree.contains(above) { above } else { path });
                return Err(if tree.contains(above) {
                    Error::NotADirectory { path }
                } else {
                    Error::MissingParent { path }
                });
            };
            if let Kind::HardLink(target) = &entry.kind {
                links.push((path, parent, name, target));
                continue;
            }
            let number = number(this.nodes.len());
            let node = this.node(path, entry)?;
            this.nodes.push(node);
            if matches!(entry.kind, Kind::Directory) {
                directories.insert(path, number);
            }
            this.adopt(parent, name, number);
        }
        for (path, parent, name, target) in links {
            this.link(path, target, (parent, name))?;
        }
        match this
            .nodes
            .iter()
            .find(|node| node.links > MAX_LINKS && !matches!(node.body, Body::Directory(_)))
        {
            Some(node) => Err(Error::TooManyLinks { path: shown(node.path), links: node.links }),
            None => Ok(this),
        }
    }

    /// Decides how names lie in directories; `seed` is `s_hash_seed`.
    pub(super) fn arrange(&mut self, seed: [u32; 4]) -> Result<(), Error> {
        for node in &mut self.nodes {
            if let Body::Directory(directory) = &mut node.body
                && !directory.arrange(seed)
            {
                let names = directory.children.len();
                return Err(Error::DirectoryTooLarge { path: shown(node.path), names });
            }
        }
        Ok(())
    }

    /// Inodes that the tree needs, reserved ones included.
    pub(super) fn inodes(&self) -> u64 {
        self.nodes.len() as u64 + u64::from(ino::LOST_FOUND) - 2
    }

    fn default_directory(&self, path: &'t [u8], meta: Meta) -> Node<'t> {
        let body = Body::Directory(Directory::new(ino::ROOT));
        Node { path, meta: Cow::Owned(meta), time: self.created, links: 2, body, xattrs: Stored::default() }
    }

    fn node(&self, path: &'t [u8], entry: &'t Entry) -> Result<Node<'t>, Error> {
        let meta = &entry.meta;
        if meta.mode > 0o7777 {
            return Err(Error::BadMode { path: shown(path), mode: meta.mode });
        }
        let Timestamp { secs, nanos } = meta.mtime;
        let time = Time::new(meta.mtime).ok_or_else(|| Error::BadTime { path: shown(path), secs, nanos })?;
        let xattrs = xattr::store(&meta.xattrs).map_err(|(name, fault)| Error::Xattr {
            path: shown(path),
            name: String::from_utf8_lossy(&name).into_owned(),
            fault,
        })?;
        let body = body(path, &entry.kind)?;
        let links = if matches!(body, Body::Directory(_)) { 2 } else { 1 };
        Ok(Node { path, meta: Cow::Borrowed(meta), time, links, body, xattrs })
    }

    /// Puts a name into a directory.
    fn adopt(&mut self, parent: u32, name: &'t [u8], child: u32) {
        let node = &mut self.nodes[index(child)];
        let file_type = node.body.file_type();
        if let Body::Directory(directory) = &mut node.body {
            directory.parent = parent;
        }
        let is_directory = matches!(node.body, Body::Directory(_));
        let parent = &mut self.nodes[index(parent)];
        parent.links += u32::from(is_directory);
        if let Body::Directory(directory) = &mut parent.body {
            directory.children.push(Child { name, inode: child, file_type });
        }
    }

    fn link(&mut self, path: &'t [u8], target: &[u8], (parent, name): (u32, &'t [u8])) -> Result<(), Error> {
        let found = self.nodes[2..].binary_search_by(|node| node.path.cmp(target)).map(|at| at + 2);
        match found {
            Ok(at) if !matches!(self.nodes[at].body, Body::Directory(_)) => {
                self.nodes[at].links += 1;
                self.adopt(parent, name, number(at));
                Ok(())
            }
            _ => Err(Error::DanglingHardLink { path: shown(path), target: shown(target) }),
        }
    }
}

/// Parent path and name.
fn split(path: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    let (above, name) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(0) => return Err(Error::InvalidName { path: shown(path) }),
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&path[..0], path),
    };
    match name {
        b"" | b"." | b".." => Err(Error::InvalidName { path: shown(path) }),
        name if name.contains(&0) => Err(Error::InvalidName { path: shown(path) }),
        name if name.len() > 255 => Err(Error::NameTooLong { path: shown(path) }),
        name => Ok((above, name)),
    }
}

fn body<'t>(path: &[u8], kind: &'t Kind) -> Result<Body<'t>, Error> {
    let device = |kind, major, minor| {
        let block = inode::encode_device(major, minor);
        let block = block.ok_or_else(|| Error::BadDevice { path: shown(path), major, minor })?;
        Ok(Body::Special(kind, block))
    };
    match kind {
        Kind::Directory => Ok(Body::Directory(Directory::new(ino::ROOT))),
        Kind::File(content) if content.len().div_ceil(BLOCK_BYTES) > u64::from(u32::MAX) => {
            Err(Error::FileTooLarge { path: shown(path), len: content.len() })
        }
        Kind::File(content) => Ok(Body::File(content)),
        // The kernel wants a zero byte after the target within the block.
        Kind::Symlink(target) if !(1..=4095).contains(&target.len()) || target.contains(&0) => {
            Err(Error::BadSymlink { path: shown(path), len: target.len() })
        }
        Kind::Symlink(target) => Ok(Body::Symlink(target)),
        Kind::HardLink(target) => Err(Error::DanglingHardLink { path: shown(path), target: shown(target) }),
        Kind::CharDevice { major, minor } => device(mode::CHAR, *major, *minor),
        Kind::BlockDevice { major, minor } => device(mode::BLOCK, *major, *minor),
        Kind::Fifo => Ok(Body::Special(mode::FIFO, [0; 60])),
        Kind::Socket => Ok(Body::Special(mode::SOCKET, [0; 60])),
    }
}

impl Body<'_> {
    /// The type bits of `i_mode`.
    pub(super) fn mode(&self) -> u16 {
        match self {
            Self::Directory(_) => mode::DIRECTORY,
            Self::File(_) => mode::REGULAR,
            Self::Symlink(_) => mode::SYMLINK,
            Self::Special(mode, _) => *mode,
        }
    }

    /// `file_type` of a directory entry (directory.rst).
    fn file_type(&self) -> u8 {
        match self.mode() {
            mode::REGULAR => 1,
            mode::DIRECTORY => 2,
            mode::CHAR => 3,
            mode::BLOCK => 4,
            mode::FIFO => 5,
            mode::SOCKET => 6,
            _ => 7,
        }
    }
}

impl Node<'_> {
    /// `i_links_count`.
    pub(super) fn link_count(&self) -> u16 {
        u16::try_from(self.links).ok().filter(|_| self.links <= MAX_LINKS).unwrap_or(1)
    }
}
