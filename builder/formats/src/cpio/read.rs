//! Reading archives back into a tree, as the kernel would unpack them.

use super::{HEADER, MAGIC, PATH_MAX, TRAILER, kind};
use crate::io::ReadAt;
use crate::tree::{Content, Entry, Kind, Meta, Path, Timestamp, Tree};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

/// Why bytes cannot be read as an archive.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no archive at the start.
    #[error("not a cpio archive of the newc kind: no 070701 at byte {offset}")]
    NotAnArchive {
        /// Where the magic was looked for.
        offset: u64,
    },
    /// A record breaks the format.
    #[error("the cpio record at byte {offset} is damaged: {what}")]
    Damaged {
        /// The record's first byte.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The source could not be read, or ends too early (`UnexpectedEof`).
    #[error("reading the cpio archive at byte {offset}: {source}")]
    Io {
        /// Where.
        offset: u64,
        /// What failed.
        source: io::Error,
    },
}

/// What a row of concatenated archives holds.
#[derive(Debug, Clone)]
pub struct Archives {
    /// All entries; a name that occurs again replaces the earlier one, as in the kernel.
    pub tree: Tree,
    /// Number of archives.
    pub count: usize,
    /// Offset (bytes) after the last plain archive and its padding: the source's size, or where something
    /// else begins, such as a compressed archive.
    pub end: u64,
}

/// Reads the plain archives at the start of `source`. The content of files stays in the source.
///
/// # Errors
/// See [`ReadError`]; names that would unpack outside of the tree (`..`) are damage.
pub fn read(source: &Arc<dyn ReadAt>) -> Result<Archives, ReadError> {
    let size = source.size().map_err(|source| ReadError::Io { offset: 0, source })?;
    let (names, files, linked) = Default::default();
    let mut reader = Reader { source, size, at: 0, names, files, linked };
    let mut count = 0;
    loop {
        match reader.skip_zeros()? {
            Some(first) if first == MAGIC[0] && reader.at.is_multiple_of(4) => {}
            None | Some(_) if count > 0 => break,
            _ => return Err(ReadError::NotAnArchive { offset: reader.at }),
        }
        reader.archive(count == 0)?;
        count += 1;
    }
    Ok(Archives { end: reader.at, count, tree: reader.into_tree() })
}

/// A file (with any number of names) or another thing, before names are joined to it.
#[derive(Debug)]
struct Node {
    entry: Entry,
    /// The first name in path order, once known: the further ones become hard links to it.
    first: Option<Path>,
}

struct Reader<'a> {
    source: &'a Arc<dyn ReadAt>,
    size: u64,
    at: u64,
    names: BTreeMap<Path, usize>,
    files: Vec<Node>,
    /// Files with several names in the current archive, by device and inode.
    linked: HashMap<(u32, u32, u32), usize>,
}

/// The fields of a header that matter.
struct Header {
    inode: (u32, u32, u32),
    mode: u32,
    nlink: u32,
    meta: Meta,
    size: u32,
    rdev: (u32, u32),
    name: usize,
}

impl Reader<'_> {
    /// Passes the zero bytes between archives; the byte that follows them, `None` at the end.
    fn skip_zeros(&mut self) -> Result<Option<u8>, ReadError> {
        let mut buf = [0; 4096];
        while self.at < self.size {
            let len = usize::try_from(self.size - self.at).unwrap_or(buf.len()).min(buf.len());
            self.bytes(&mut buf[..len], self.at)?;
            if let Some(zeros) = buf[..len].iter().position(|byte| *byte != 0) {
                self.at += zeros as u64;
                return Ok(Some(buf[zeros]));
            }
            self.at += len as u64;
        }
        Ok(None)
    }

    fn bytes(&self, buf: &mut [u8], offset: u64) -> Result<(), ReadError> {
        self.source.read_exact_at(buf, offset).map_err(|source| ReadError::Io { offset, source })
    }

    /// Reads records up to and with the trailer.
    fn archive(&mut self, first: bool) -> Result<(), ReadError> {
        // Links are joined within one archive: the trailer empties the kernel's table, too.
        self.linked.clear();
        loop {
            let record = self.at;
            let damaged = |what| ReadError::Damaged { offset: record, what };
            let mut bytes = [0; HEADER];
            let fits = self.size - record >= HEADER as u64;
            if fits {
                self.bytes(&mut bytes, record)?;
            }
            if !bytes.starts_with(MAGIC) {
                return Err(match first && self.names.is_empty() {
                    true => ReadError::NotAnArchive { offset: record },
                    false => damaged("no 070701 at its start; the archive has no trailer"),
                });
            }
            let header = Header::parse(&bytes).ok_or(damaged("a field is not eight hexadecimal digits"))?;
            if header.name < 1 || header.name > PATH_MAX {
                return Err(damaged("its name is empty or too long"));
            }
            let mut name = vec![0; header.name];
            self.bytes(&mut name, record + HEADER as u64)?;
            // The header is 110 bytes, so name and data are aligned with the record, not with the archive.
            let data = (record + HEADER as u64 + header.name as u64).next_multiple_of(4);
            let end = data + u64::from(header.size);
            if end > self.size {
                return Err(damaged("its data goes past the end"));
            }
            // GNU cpio and the kernel both take an archive whose last padding is missing.
            self.at = end.next_multiple_of(4).min(self.size);
            let zero = name.iter().position(|byte| *byte == 0).ok_or(damaged("its name has no NUL"))?;
            name.truncate(zero);
            if name == TRAILER {
                return Ok(());
            }
            let path = path_of(&name).ok_or(damaged("its name leads out of the archive"))?;
            let entry = self.entry(&header, data)?;
            self.join(path, &header, entry);
        }
    }

    fn entry(&self, header: &Header, data: u64) -> Result<Entry, ReadError> {
        let damaged = |what| ReadError::Damaged { offset: data, what };
        let (major, minor) = header.rdev;
        let kind = match header.mode & kind::MASK {
            kind::DIRECTORY => Kind::Directory,
            kind::FILE => Kind::File(Content::Extern {
                source: Arc::clone(self.source),
                offset: data,
                len: u64::from(header.size),
            }),
            kind::SYMLINK => {
                let len = usize::try_from(header.size).ok().filter(|len| *len <= PATH_MAX);
                let mut target = vec![0; len.ok_or(damaged("a symbolic link's target is too long"))?];
                self.bytes(&mut target, data)?;
                Kind::Symlink(target.into())
            }
            kind::CHAR => Kind::CharDevice { major, minor },
            kind::BLOCK => Kind::BlockDevice { major, minor },
            kind::FIFO => Kind::Fifo,
            kind::SOCKET => Kind::Socket,
            _ => return Err(damaged("its mode has no known file type")),
        };
        Ok(Entry { meta: header.meta.clone(), kind })
    }

    fn join(&mut self, path: Path, header: &Header, entry: Entry) {
        let shared = header.nlink > 1 && matches!(entry.kind, Kind::File(_));
        let known = self.linked.get(&header.inode).copied().filter(|_| shared);
        let node = known.unwrap_or(self.files.len());
        match self.files.get_mut(node) {
            // A name without data adds nothing; one with data says what the file holds.
            Some(file) if header.size > 0 => file.entry = entry,
            Some(_) => {}
            None => self.files.push(Node { entry, first: None }),
        }
        if shared {
            self.linked.insert(header.inode, node);
        }
        self.names.insert(path, node);
    }

    fn into_tree(self) -> Tree {
        let mut files = self.files;
        let mut tree = Tree::new();
        for (path, node) in self.names {
            let Some(node) = files.get_mut(node) else { continue };
            let mut entry = node.entry.clone();
            match &node.first {
                Some(first) => entry.kind = Kind::HardLink(first.clone()),
                None => node.first = Some(path.clone()),
            }
            tree.insert(&path, entry);
        }
        tree
    }
}

impl Header {
    fn parse(bytes: &[u8; HEADER]) -> Option<Self> {
        let mut fields = [0; 13];
        for (field, digits) in fields.iter_mut().zip(bytes[MAGIC.len()..].chunks_exact(8)) {
            for digit in digits {
                *field = *field << 4 | char::from(*digit).to_digit(16)?;
            }
        }
        let [ino, mode, uid, gid, nlink, mtime, size, dev_major, dev_minor, major, minor, name, _] = fields;
        let mtime = Timestamp { secs: i64::from(mtime), nanos: 0 };
        let bits = u16::try_from(mode & 0o7777).ok()?;
        let meta = Meta { mode: bits, uid, gid, mtime, ..Meta::default() };
        let name = usize::try_from(name).ok()?;
        Some(Self { inode: (dev_major, dev_minor, ino), mode, nlink, meta, size, rdev: (major, minor), name })
    }
}

/// The path in the tree of a name such as `./a//b` or `/a/b`; `None` when it has a `..`.
fn path_of(name: &[u8]) -> Option<Path> {
    let parts: Vec<&[u8]> =
        name.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    (!parts.contains(&b"..".as_slice())).then(|| parts.join(&b'/').into())
}
