//! Reading a volume back into a tree.

use super::directory::{LAST_LONG, LONG_AT};
use super::geometry::{Geometry, Width};
use super::names::{Short, checksum};
use super::time::from_fat;
use super::{DIRECTORY_MAX, ENTRY, attribute};
use crate::io::ReadAt;
use crate::tree::{Content, Entry, Kind, Tree};
use std::io;
use std::sync::Arc;

/// Longer paths are of no use to anybody, and a hostile volume could make them take all memory.
const PATH_MAX: usize = 4096;
/// A directory entry has 32 bytes, its path up to [`PATH_MAX`]: all entries together may take this many in memory.
const PATHS_MAX: usize = 64 << 20;
/// Bytes that an entry takes beside its path.
const ENTRY_COST: usize = 256;
/// Bytes of the allocation table that are read at once.
const WINDOW: u64 = 64 << 10;

/// Why bytes cannot be read as a volume.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The boot sector does not describe a FAT16 or FAT32 volume.
    #[error("not a FAT16 or FAT32 volume: {0}")]
    NotAVolume(&'static str),
    /// A file or directory is damaged.
    #[error("the FAT volume is damaged at {path:?}: {what}")]
    Damaged {
        /// The entry.
        path: String,
        /// What is wrong.
        what: &'static str,
    },
    /// The source could not be read.
    #[error("reading the FAT volume at byte {offset}: {source}")]
    Io {
        /// Where.
        offset: u64,
        /// What failed.
        source: io::Error,
    },
}

/// A volume: what its boot sector says, and its files.
#[derive(Debug, Clone)]
pub struct Volume {
    /// Where things lie.
    pub geometry: Geometry,
    /// The number by which systems tell volumes apart.
    pub volume_id: u32,
    /// The label in the root directory, else in the boot sector; empty when there is none.
    pub label: String,
    /// Clusters that hold something.
    pub used: u32,
    /// Directories with mode 0755, files with 0644, the root without a time of its own. Content stays in the
    /// source.
    pub tree: Tree,
}

/// Reads a volume's boot sector and directories.
///
/// # Errors
/// See [`ReadError`]: a chain with a loop or of the wrong length, a name twice, and the like are damage.
pub fn read(source: &Arc<dyn ReadAt>) -> Result<Volume, ReadError> {
    let io = |source| ReadError::Io { offset: 0, source };
    let size = source.size().map_err(io)?;
    let mut boot = [0; 512];
    source.read_exact_at(&mut boot, 0).map_err(io)?;
    let geometry = geometry(&boot, size)?;
    let at = if geometry.width == Width::Fat32 { 64 } else { 36 };
    let extended = boot[at + 2] == 0x29;
    let mut short = [b' '; 11];
    short.copy_from_slice(&boot[at + 7..at + 18]);
    let named = extended && short != *b"NO NAME    ";
    let seen = vec![0; usize::try_from(geometry.clusters / 64 + 1).unwrap_or_default()];
    let mut reader = Reader {
        source,
        geometry,
        table: Vec::new(),
        table_at: 0,
        seen,
        label: if named { oem(&short) } else { String::new() },
        used: 0,
        tree: Tree::new(),
        paths: 0,
    };
    reader.tree.insert("", Entry::directory());
    let root = match geometry.width {
        Width::Fat32 => reader.chain(b"", u32_at(&boot, 44) & CLUSTER_MASK, DIRECTORY_MAX as u64)?,
        Width::Fat16 => {
            vec![Run { at: 0, offset: geometry.root_offset(), len: u64::from(geometry.root_entries) * 32 }]
        }
    };
    let mut pending = vec![(Vec::new(), root)];
    while let Some((path, runs)) = pending.pop() {
        reader.directory(&path, runs, &mut pending)?;
    }
    let volume_id = if extended { u32_at(&boot, at + 3) } else { 0 };
    Ok(Volume { geometry, volume_id, label: reader.label, used: reader.used, tree: reader.tree })
}

/// The top four bits of a FAT32 entry are reserved.
const CLUSTER_MASK: u32 = 0x0fff_ffff;

fn u16_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u16_at(bytes, at) | u16_at(bytes, at + 2) << 16
}

/// The boot sector's fields, checked against each other and against the source's size (bytes).
fn geometry(boot: &[u8; 512], size: u64) -> Result<Geometry, ReadError> {
    let bad = |what| Err(ReadError::NotAVolume(what));
    if boot[510..] != [0x55, 0xaa] {
        return bad("no 55 AA at the end of its boot sector");
    }
    let sector_size = u16_at(boot, 11);
    if !matches!(sector_size, 512 | 1024 | 2048 | 4096) {
        return bad("its sectors are not 512 to 4096 bytes");
    }
    let sectors_per_cluster = u32::from(boot[13]);
    if !sectors_per_cluster.is_power_of_two() {
        return bad("its clusters are not a power of two of sectors");
    }
    let either = |old: u32, new: u32| if old != 0 { old } else { new };
    let mut geometry = Geometry {
        width: Width::Fat32,
        sector_size,
        sectors_per_cluster,
        reserved: u16_at(boot, 14),
        tables: u32::from(boot[16]),
        table_sectors: either(u16_at(boot, 22), u32_at(boot, 36)),
        root_entries: u16_at(boot, 17),
        sectors: either(u16_at(boot, 19), u32_at(boot, 32)),
        clusters: 0,
    };
    if geometry.reserved == 0 || geometry.tables == 0 {
        return bad("it has no reserved sectors or no allocation table");
    }
    if u64::from(geometry.sectors) * u64::from(sector_size) > size {
        return bad("it is larger than what it lies on");
    }
    let data = geometry.cluster_offset(2) / u64::from(sector_size);
    let Some(sectors) = u64::from(geometry.sectors).checked_sub(data) else {
        return bad("its allocation tables go past its end");
    };
    geometry.clusters = u32::try_from(sectors / u64::from(sectors_per_cluster)).unwrap_or_default();
    let Some(width) = Geometry::width_of(geometry.clusters) else {
        return bad("it has too few clusters, it may be FAT12");
    };
    geometry.width = width;
    let bytes = if width == Width::Fat32 { 4 } else { 2 };
    let wanted = (u64::from(geometry.clusters) + 2) * bytes;
    match wanted > u64::from(geometry.table_sectors) * u64::from(sector_size) {
        true => bad("its allocation table is too small for its clusters"),
        false => Ok(geometry),
    }
}

/// A directory that is still to be read: its path, and where it lies.
type Pending = (Vec<u8>, Vec<Run>);

/// Clusters of a chain that lie side by side, as bytes.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// Offset in the file.
    at: u64,
    /// Offset in the volume.
    offset: u64,
    len: u64,
}

struct Reader<'a> {
    source: &'a Arc<dyn ReadAt>,
    geometry: Geometry,
    /// A piece of the first allocation table, and its offset there.
    table: Vec<u8>,
    table_at: u64,
    /// A bit for each cluster that some chain has.
    seen: Vec<u64>,
    label: String,
    used: u32,
    tree: Tree,
    /// Bytes of all paths in the tree.
    paths: usize,
}

fn damaged(path: &[u8], what: &'static str) -> ReadError {
    ReadError::Damaged { path: String::from_utf8_lossy(path).into_owned(), what }
}

impl Reader<'_> {
    fn bytes(&self, buf: &mut [u8], offset: u64) -> Result<(), ReadError> {
        self.source.read_exact_at(buf, offset).map_err(|source| ReadError::Io { offset, source })
    }

    /// The successor of a cluster; `None` at the end of the chain.
    fn next(&mut self, cluster: u32) -> Result<Option<u32>, ReadError> {
        let wide = self.geometry.width == Width::Fat32;
        let at = u64::from(cluster) * if wide { 4 } else { 2 };
        if at < self.table_at || at + 4 > self.table_at + self.table.len() as u64 {
            let end = u64::from(self.geometry.table_sectors) * u64::from(self.geometry.sector_size);
            self.table_at = at / WINDOW * WINDOW;
            let len = usize::try_from((end - self.table_at).min(WINDOW)).unwrap_or_default();
            let mut table = std::mem::take(&mut self.table);
            table.resize(len, 0);
            let read = self.bytes(&mut table, self.geometry.table_offset(0) + self.table_at);
            self.table = table;
            read?;
        }
        let at = usize::try_from(at - self.table_at).unwrap_or_default();
        let (entry, end) = match wide {
            true => (u32_at(&self.table, at) & CLUSTER_MASK, 0x0fff_fff8),
            false => (u16_at(&self.table, at), 0xfff8),
        };
        Ok((entry < end).then_some(entry))
    }

    /// The runs of the chain that begins with `first`, at most `max` bytes.
    fn chain(&mut self, path: &[u8], first: u32, max: u64) -> Result<Vec<Run>, ReadError> {
        let cluster_size = u64::from(self.geometry.cluster_size());
        let mut runs: Vec<Run> = Vec::new();
        let mut at = 0;
        let mut next = Some(first);
        while let Some(cluster) = next {
            if !(2..self.geometry.clusters + 2).contains(&cluster) {
                return Err(damaged(
                    path,
                    "its chain leads to a cluster that does not exist, is free or bad",
                ));
            }
            let (word, bit) = (usize::try_from(cluster / 64).unwrap_or_default(), 1 << (cluster % 64));
            let seen = self.seen.get_mut(word).ok_or_else(|| damaged(path, "its chain leaves the volume"))?;
            if *seen & bit != 0 {
                return Err(damaged(path, "its chain runs into itself or into another one"));
            }
            *seen |= bit;
            if at >= max {
                return Err(damaged(path, "its chain is longer than it may be"));
            }
            let offset = self.geometry.cluster_offset(cluster);
            match runs.last_mut().filter(|run| run.offset + run.len == offset) {
                Some(run) => run.len += cluster_size,
                None => runs.push(Run { at, offset, len: cluster_size }),
            }
            at += cluster_size;
            self.used += 1;
            next = self.next(cluster)?;
        }
        Ok(runs)
    }

    fn directory(
        &mut self,
        path: &[u8],
        runs: Vec<Run>,
        pending: &mut Vec<Pending>,
    ) -> Result<(), ReadError> {
        let mut long = Long::default();
        for run in runs {
            let mut bytes = vec![0; usize::try_from(run.len).unwrap_or_default()];
            self.bytes(&mut bytes, run.offset)?;
            let (entries, _) = bytes.as_chunks::<ENTRY>();
            for entry in entries {
                match (entry[0], entry[11]) {
                    (0, _) => return Ok(()),
                    (0xe5, _) => long = Long::default(),
                    (_, kind) if kind & attribute::LONG_NAME_MASK == attribute::LONG_NAME => long.add(entry),
                    (_, kind) if kind & attribute::VOLUME_ID != 0 => {
                        if path.is_empty() {
                            self.label = oem(entry.first_chunk().unwrap_or(&[b' '; 11]));
                        }
                        long = Long::default();
                    }
                    (b'.', _) if entry[1..11] == *b"          " || entry[1..11] == *b".         " => {}
                    _ => {
                        let name = std::mem::take(&mut long).name(entry).unwrap_or_else(|| short_name(entry));
                        pending.extend(self.entry(path, &name, entry)?);
                    }
                }
            }
        }
        Ok(())
    }

    /// Adds an entry to the tree; a directory comes back to be read.
    fn entry(
        &mut self,
        parent: &[u8],
        name: &str,
        entry: &[u8; ENTRY],
    ) -> Result<Option<Pending>, ReadError> {
        let mut path = parent.to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend(name.bytes());
        if matches!(name, "" | "." | "..") || name.contains(['/', '\0']) || path.len() > PATH_MAX {
            return Err(damaged(&path, "its name is impossible"));
        }
        self.paths += ENTRY_COST + path.len();
        if self.paths > PATHS_MAX {
            return Err(damaged(&path, "the paths of the volume take too much memory"));
        }
        let size = u64::from(u32_at(entry, 28));
        let first = (u16_at(entry, 20) << 16 | u16_at(entry, 26)) & CLUSTER_MASK;
        let first = if self.geometry.width == Width::Fat32 { first } else { first & 0xffff };
        let (mut found, below) = if entry[11] & attribute::DIRECTORY != 0 {
            let runs = self.chain(&path, first, DIRECTORY_MAX as u64)?;
            (Entry::directory(), Some((path.clone(), runs)))
        } else {
            let content = self.content(&path, first, size)?;
            (Entry::new(Kind::File(content), 0o644), None)
        };
        let (time, date) = (u16_at(entry, 22), u16_at(entry, 24));
        found.meta.mtime =
            from_fat(u16::try_from(date).unwrap_or_default(), u16::try_from(time).unwrap_or_default());
        match self.tree.insert(&path, found) {
            Some(_) => Err(damaged(&path, "two entries have this name")),
            None => Ok(below),
        }
    }

    fn content(&mut self, path: &[u8], first: u32, size: u64) -> Result<Content, ReadError> {
        if size == 0 && first == 0 {
            return Ok(Content::bytes([]));
        }
        let runs = self.chain(path, first, size)?;
        if runs.iter().map(|run| run.len).sum::<u64>() < size {
            return Err(damaged(path, "its chain is shorter than its size"));
        }
        Ok(match runs.as_slice() {
            [run] => Content::Extern { source: Arc::clone(self.source), offset: run.offset, len: size },
            _ => {
                let source = Arc::new(Chain { source: Arc::clone(self.source), runs, size });
                Content::Extern { source, offset: 0, len: size }
            }
        })
    }
}

/// A file in several pieces.
#[derive(Debug)]
struct Chain {
    source: Arc<dyn ReadAt>,
    runs: Vec<Run>,
    size: u64,
}

impl ReadAt for Chain {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let eof = || io::Error::from(io::ErrorKind::UnexpectedEof);
        offset.checked_add(buf.len() as u64).filter(|end| *end <= self.size).ok_or_else(eof)?;
        let mut at = offset;
        let mut rest = buf;
        let mut index = self.runs.partition_point(|run| run.at + run.len <= offset);
        while !rest.is_empty() {
            let run = self.runs.get(index).ok_or_else(eof)?;
            let within = at - run.at;
            let len = usize::try_from(run.len - within).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at_mut(len);
            self.source.read_exact_at(now, run.offset + within)?;
            rest = later;
            at += len as u64;
            index += 1;
        }
        Ok(())
    }
    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }
}

/// A long name in the making: parts come last one first.
#[derive(Default)]
struct Long {
    units: Vec<[u16; LONG_AT.len()]>,
    expected: u8,
    sum: u8,
}

impl Long {
    fn add(&mut self, entry: &[u8; ENTRY]) {
        let order = entry[0] & !LAST_LONG;
        if entry[0] & LAST_LONG != 0 && (1..=20).contains(&order) {
            *self = Self { units: Vec::new(), expected: order, sum: entry[13] };
        }
        if order == 0 || order != self.expected || entry[13] != self.sum {
            *self = Self::default();
            return;
        }
        self.expected -= 1;
        let unit = |at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
        self.units.push(LONG_AT.map(unit));
    }

    /// The name, when all parts are there and belong to the short entry.
    fn name(self, entry: &[u8; ENTRY]) -> Option<String> {
        let whole = !self.units.is_empty() && self.expected == 0;
        if !whole || checksum(entry.first_chunk()?) != self.sum {
            return None;
        }
        let units = self.units.iter().rev().flatten().copied().take_while(|unit| *unit != 0);
        Some(char::decode_utf16(units).map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
    }
}

/// A short name with its dot; `DIR_NTRes` says which parts Windows NT and Linux show in lower case.
fn short_name(entry: &[u8; ENTRY]) -> String {
    let part = |range: std::ops::Range<usize>, lower: u8| {
        let text: String = entry[range].iter().map(|byte| char::from(*byte)).collect();
        let text = text.trim_end_matches(' ').to_owned();
        if entry[12] & lower == 0 { text } else { text.to_ascii_lowercase() }
    };
    let (mut name, extension) = (part(0..8, 0x08), part(8..11, 0x10));
    // 0x05 stands for 0xE5, which would mark the entry as free.
    if entry[0] == 0x05 {
        name.replace_range(..1, "\u{e5}");
    }
    if extension.is_empty() { name } else { format!("{name}.{extension}") }
}

fn oem(short: &Short) -> String {
    let text: String = short.iter().map(|byte| char::from(*byte)).collect();
    text.trim_end_matches([' ', '\0']).to_owned()
}
