//! The tar archives inside a package: headers to a tree, contents left in place.
//!
//! Formats: POSIX.1-2017 pax (ustar with extended headers) and GNU tar's long names, as dpkg-deb accepts
//! them (deb(5)); extended attributes as GNU tar and libarchive write them (`SCHILY.xattr.NAME`).

use super::{ControlFile, Error};
use crate::io::ReadAt;
use crate::tree::{Content, Entry, Kind, Meta, Path, Timestamp, Tree};
use std::collections::BTreeMap;
use std::io::{Cursor, ErrorKind, Read, Result as IoResult, Seek, SeekFrom};
use std::sync::Arc;
use tar::EntryType;

/// Reads the headers of an unpacked `data.tar` and gives its tree; contents are [`Content::Extern`] into it.
/// The package's own root directory entry (`./`) is the empty path.
///
/// # Errors
/// [`Error::Tar`] for malformed archives, [`Error::Entry`] for paths that leave the tree, kinds that have no
/// place in one, and members that reach past the end of the archive.
pub fn index(unpacked: Arc<dyn ReadAt>) -> Result<Tree, Error> {
    let size = unpacked.size().map_err(Error::Read)?;
    let mut tree = Tree::new();
    let mut archive = tar::Archive::new(Cached::new(Arc::clone(&unpacked), size));
    for entry in archive.entries_with_seek().map_err(Error::Tar)? {
        let mut entry = entry.map_err(Error::Tar)?;
        if entry.header().entry_type() == EntryType::XGlobalHeader {
            continue;
        }
        let raw = entry.path_bytes().into_owned();
        let bad = |reason| Error::Entry { path: String::from_utf8_lossy(&raw).into_owned(), reason };
        let path = clean(&raw).ok_or_else(|| bad("the path leaves the tree"))?;
        let meta = meta(&mut entry, &bad)?;
        let kind = match entry.header().entry_type() {
            EntryType::Directory => Kind::Directory,
            EntryType::Regular | EntryType::Continuous => {
                let (offset, len) = (entry.raw_file_position(), entry.size());
                if offset.checked_add(len).is_none_or(|end| end > size) {
                    return Err(bad("its bytes reach past the end of the archive"));
                }
                Kind::File(Content::Extern { source: Arc::clone(&unpacked), offset, len })
            }
            EntryType::Symlink => Kind::Symlink(target(&entry).ok_or_else(|| bad("a link to nothing"))?),
            EntryType::Link => {
                let target = target(&entry).and_then(|target| clean(&target));
                let target = target.ok_or_else(|| bad("a hard link that leaves the tree"))?;
                if !matches!(tree.get(&target).map(|entry| &entry.kind), Some(Kind::File(_))) {
                    return Err(bad("a hard link to what is not a file before it"));
                }
                Kind::HardLink(target)
            }
            kind @ (EntryType::Char | EntryType::Block) => {
                let number = |number: IoResult<Option<u32>>| number.ok().flatten();
                let major =
                    number(entry.header().device_major()).ok_or_else(|| bad("a device without number"))?;
                let minor =
                    number(entry.header().device_minor()).ok_or_else(|| bad("a device without number"))?;
                match kind {
                    EntryType::Char => Kind::CharDevice { major, minor },
                    _ => Kind::BlockDevice { major, minor },
                }
            }
            EntryType::Fifo => Kind::Fifo,
            _ => return Err(bad("a kind of entry that no file tree has")),
        };
        tree.insert(&path, Entry { meta, kind });
    }
    Ok(tree)
}

/// The regular files of a control archive in memory.
pub(super) fn control_files(archive: &[u8]) -> Result<BTreeMap<String, ControlFile>, Error> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(Cursor::new(archive)).entries().map_err(Error::Tar)? {
        let mut entry = entry.map_err(Error::Tar)?;
        if entry.header().entry_type() != EntryType::Regular {
            continue;
        }
        let raw = entry.path_bytes().into_owned();
        let bad = |reason| Error::Entry { path: String::from_utf8_lossy(&raw).into_owned(), reason };
        let path = clean(&raw).ok_or_else(|| bad("the path leaves the archive"))?;
        let name = String::from_utf8(path.into()).map_err(|_| bad("the name is not UTF-8"))?;
        if name.is_empty() || name.contains('/') {
            return Err(bad("control archives have no folders"));
        }
        let mode = mode(&entry).ok_or_else(|| bad("no mode"))?;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(Error::Tar)?;
        if bytes.len() as u64 != entry.size() {
            return Err(bad("its bytes reach past the end of the archive"));
        }
        files.insert(name, ControlFile { mode, bytes });
    }
    Ok(files)
}

/// The path as the tree writes it, unless it has `..`, NUL or nothing to it.
fn clean(raw: &[u8]) -> Option<Path> {
    if raw.contains(&0) || raw.is_empty() {
        return None;
    }
    let mut parts = Vec::new();
    for part in raw.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return None,
            part => parts.push(part),
        }
    }
    Some(parts.join(&b'/').into())
}

fn target<R: Read>(entry: &tar::Entry<'_, R>) -> Option<Box<[u8]>> {
    entry
        .link_name_bytes()
        .filter(|target| !target.is_empty() && !target.contains(&0))
        .map(|target| target.into())
}

fn mode<R: Read>(entry: &tar::Entry<'_, R>) -> Option<u16> {
    entry.header().mode().ok().and_then(|mode| u16::try_from(mode & 0o7777).ok())
}

fn meta<R: Read>(entry: &mut tar::Entry<'_, R>, bad: &impl Fn(&'static str) -> Error) -> Result<Meta, Error> {
    let id = |id: IoResult<u64>| id.ok().and_then(|id| u32::try_from(id).ok());
    let mut meta = Meta {
        mode: mode(entry).ok_or_else(|| bad("no mode"))?,
        uid: id(entry.header().uid()).ok_or_else(|| bad("no owner"))?,
        gid: id(entry.header().gid()).ok_or_else(|| bad("no group"))?,
        mtime: Timestamp {
            secs: entry
                .header()
                .mtime()
                .ok()
                .and_then(|secs| i64::try_from(secs).ok())
                .ok_or_else(|| bad("no time"))?,
            nanos: 0,
        },
        xattrs: BTreeMap::new(),
    };
    let Some(records) = entry.pax_extensions().map_err(Error::Tar)? else { return Ok(meta) };
    for record in records {
        let record = record.map_err(Error::Tar)?;
        if let Some(name) = record.key_bytes().strip_prefix(b"SCHILY.xattr.") {
            meta.xattrs.insert(name.into(), record.value_bytes().into());
        } else if record.key_bytes() == b"mtime" {
            let text = std::str::from_utf8(record.value_bytes()).ok();
            meta.mtime = text.and_then(time).ok_or_else(|| bad("no time"))?;
        }
    }
    Ok(meta)
}

/// A pax time: decimal seconds with an optional fraction (POSIX pax, "Extended Header Keyword mtime").
fn time(text: &str) -> Option<Timestamp> {
    let (secs, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos: u32 = format!("{fraction:0<9}")[..9].parse().ok()?;
    let whole: i64 = secs.parse().ok()?;
    match (secs.starts_with('-'), nanos) {
        (true, 1..) => Some(Timestamp { secs: whole.checked_sub(1)?, nanos: 1_000_000_000 - nanos }),
        _ => Some(Timestamp { secs: whole, nanos }),
    }
}

/// A cursor over a positioned source with one page of cache, so that a header and the small file after it
/// cost one read.
struct Cached {
    source: Arc<dyn ReadAt>,
    size: u64,
    at: u64,
    page: Vec<u8>,
    start: u64,
}

/// Bytes read at a time.
const PAGE: u64 = 8192;

impl Cached {
    fn new(source: Arc<dyn ReadAt>, size: u64) -> Self {
        Self { source, size, at: 0, page: Vec::new(), start: 0 }
    }
}

impl Read for Cached {
    fn read(&mut self, buf: &mut [u8]) -> IoResult<usize> {
        if self.at >= self.size || buf.is_empty() {
            return Ok(0);
        }
        let cached = self.start..self.start + self.page.len() as u64;
        if !cached.contains(&self.at) {
            let len = PAGE.min(self.size - self.at);
            self.page.resize(usize::try_from(len).map_err(|_| ErrorKind::InvalidData)?, 0);
            self.start = self.at;
            self.source.read_exact_at(&mut self.page, self.at)?;
        }
        let from = usize::try_from(self.at - self.start).map_err(|_| ErrorKind::InvalidData)?;
        let len = buf.len().min(self.page.len() - from);
        buf[..len].copy_from_slice(&self.page[from..from + len]);
        self.at += len as u64;
        Ok(len)
    }
}

impl Seek for Cached {
    fn seek(&mut self, to: SeekFrom) -> IoResult<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
        };
        self.at = at.ok_or(ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::{Timestamp, clean, time};

    #[test]
    fn times_have_fractions_and_signs() {
        for (text, secs, nanos) in [("7", 7, 0), ("7.5", 7, 500_000_000), ("-1.25", -2, 750_000_000)] {
            assert_eq!(time(text), Some(Timestamp { secs, nanos }), "{text}");
        }
        for text in ["", "x", "1.x", "1.2.3", "."] {
            assert_eq!(time(text), None, "{text}");
        }
    }

    #[test]
    fn paths_stay_in_the_tree() {
        for (raw, path) in [("./", ""), ("./usr/bin/", "usr/bin"), ("/etc//x", "etc/x")] {
            assert_eq!(clean(raw.as_bytes()).as_deref(), Some(path.as_bytes()), "{raw}");
        }
        for raw in ["", "../x", "a/../b", "a\0b"] {
            assert_eq!(clean(raw.as_bytes()), None, "{raw}");
        }
    }
}
