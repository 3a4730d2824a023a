//! Writing a volume from a tree.

use super::directory::{self, Facts};
use super::geometry::{Geometry, GeometryError, Width};
use super::names::{self, Name, Names};
use super::{DIRECTORY_MAX, ENTRY, attribute};
use crate::io::WriteAt;
use crate::stream::copy_at;
use crate::tree::{Content, Kind, Timestamp, Tree};
use std::collections::{BTreeMap, HashMap};
use std::io;

/// What a volume shall be.
#[derive(Debug, Clone)]
pub struct Options<'a> {
    /// Size in bytes. The target's length is the caller's to set: nothing is written at a volume's empty end.
    pub size: u64,
    /// Bytes a sector of the device: 512 or 4096.
    pub sector_size: u32,
    /// `None` chooses by the size; see [`Geometry`].
    pub sectors_per_cluster: Option<u32>,
    /// The number by which systems tell volumes apart (`XXXX-XXXX`).
    pub volume_id: u32,
    /// At most 11 characters, capitals, digits, space and some signs; empty for none.
    pub label: &'a str,
    /// The time of the volume label.
    pub created: Timestamp,
}

/// Why a tree cannot be written as a volume.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// No such volume.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// The label.
    #[error(
        "{label:?} cannot be a FAT volume label: at most 11 of capital letters, digits, space and $%'-_@~`!(){{}}^#&"
    )]
    BadLabel {
        /// What was given.
        label: String,
    },
    /// FAT has directories and regular files only.
    #[error("{path} is {kind}; FAT holds directories and regular files")]
    Unsupported {
        /// The entry.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// The name of an entry.
    #[error("{path:?} cannot be on a FAT volume: {why}")]
    BadName {
        /// The entry.
        path: String,
        /// What is wrong with its name.
        why: String,
    },
    /// The directory of an entry is missing, or not a directory.
    #[error("{path} has no parent directory in the tree; add it (Tree::make_parents)")]
    NoParent {
        /// The entry.
        path: String,
    },
    /// A file of 4 GiB or more, or a directory of more than 65536 entries.
    #[error("{path} has {size} bytes; FAT holds at most {max}")]
    TooLarge {
        /// The entry.
        path: String,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// The volume is too small for the tree.
    #[error("the files need {needed} clusters of {cluster_size} bytes, the volume has {clusters}")]
    Full {
        /// Clusters that the tree takes.
        needed: u64,
        /// Clusters that there are.
        clusters: u32,
        /// Bytes a cluster.
        cluster_size: u32,
    },
    /// Reading a file's content, or writing the volume, failed.
    #[error("{path}: {source}")]
    Io {
        /// What was being written.
        path: String,
        /// What failed.
        source: io::Error,
    },
}

/// Writes `tree` as a FAT volume. What stays zero is not written. The root directory's entry is not needed.
///
/// # Errors
/// See [`WriteError`]. Nothing is written before the whole tree has its place.
pub fn write<W: WriteAt + ?Sized>(
    tree: &Tree,
    options: &Options<'_>,
    out: &mut W,
) -> Result<Geometry, WriteError> {
    let bad_label = || WriteError::BadLabel { label: options.label.to_owned() };
    let label = names::label(options.label).ok_or_else(bad_label)?;
    let label = (!options.label.is_empty()).then_some(label);
    let geometry = Geometry::plan(options.size, options.sector_size, options.sectors_per_cluster)?;
    let mut plan = Plan::of(tree, &geometry)?;
    plan.place(label.is_some())?;

    let volume = |source| WriteError::Io { path: "the volume".to_owned(), source };
    boot_sectors(&plan, options, out).map_err(volume)?;
    for table in 0..geometry.tables {
        table_entries(&plan, geometry.table_offset(table), out).map_err(volume)?;
    }
    for (path, directory) in &plan.directories {
        let label = label.filter(|_| path.is_empty()).map(|label| (label, options.created));
        let bytes = plan.directory_bytes(directory, label);
        let offset = plan.offset(directory);
        out.write_all_at(&bytes, offset).map_err(|source| WriteError::Io { path: show(path), source })?;
    }
    for directory in plan.directories.values() {
        for child in &directory.children {
            let Some(content) = child.content.filter(|content| !content.is_empty()) else { continue };
            let offset = geometry.cluster_offset(child.cluster);
            let io = |source| WriteError::Io { path: show(child.path), source };
            copy_at(content, out, offset).map_err(io)?;
        }
    }
    Ok(geometry)
}

/// Everything in its place.
struct Plan<'a> {
    geometry: &'a Geometry,
    directories: BTreeMap<&'a [u8], Directory<'a>>,
    /// Clusters of each chain, in the order of the volume: the first one has number 2.
    chains: Vec<u32>,
}

#[derive(Default)]
struct Directory<'a> {
    children: Vec<Child<'a>>,
    names: Vec<Name>,
    time: Timestamp,
    /// 0 for the root directory of FAT16, which is not in clusters.
    cluster: u32,
    parent: &'a [u8],
}

struct Child<'a> {
    path: &'a [u8],
    name: &'a str,
    time: Timestamp,
    /// `None` for a directory.
    content: Option<&'a Content>,
    /// 0 for an empty file.
    cluster: u32,
}

impl<'a> Plan<'a> {
    /// Sorts the tree into directories.
    fn of(tree: &'a Tree, geometry: &'a Geometry) -> Result<Self, WriteError> {
        let mut directories: BTreeMap<&[u8], Directory<'_>> = BTreeMap::new();
        directories.insert(b"", Directory::default());
        for (path, entry) in tree.iter() {
            let content = content_of(path, &entry.kind)?;
            if path.is_empty() {
                continue;
            }
            let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
                Some(slash) => (&path[..slash], &path[slash + 1..]),
                None => (&b""[..], path),
            };
            let bad = |why: &str| WriteError::BadName { path: show(path), why: why.to_owned() };
            let name = std::str::from_utf8(name).map_err(|_| bad("it is not UTF-8"))?;
            if let Some(why) = names::fault(name) {
                return Err(bad(why));
            }
            let time = entry.meta.mtime;
            let home = directories.get_mut(parent);
            let home = home.ok_or_else(|| WriteError::NoParent { path: show(path) })?;
            home.children.push(Child { path, name, time, content, cluster: 0 });
            if content.is_none() {
                directories.insert(path, Directory { time, parent, ..Directory::default() });
            }
        }
        for directory in directories.values_mut() {
            directory.name_children()?;
        }
        Ok(Self { geometry, directories, chains: Vec::new() })
    }

    /// Gives every directory and file its clusters: directories first, so that a listing reads one stretch.
    fn place(&mut self, label: bool) -> Result<(), WriteError> {
        let geometry = self.geometry;
        let cluster_size = u64::from(geometry.cluster_size());
        let mut next = 2_u64;
        let mut chains = Vec::new();
        let mut take = |bytes: u64| {
            let first = next;
            let count = bytes.div_ceil(cluster_size);
            next += count;
            // Beyond 32 bits the volume is full, which is found out below.
            chains.push(u32::try_from(count).unwrap_or(u32::MAX));
            u32::try_from(first).unwrap_or(u32::MAX)
        };
        for (path, directory) in &mut self.directories {
            let extra = if path.is_empty() { usize::from(label) } else { 2 };
            let bytes = directory.names.iter().map(directory::size).sum::<usize>() + extra * ENTRY;
            let fixed = path.is_empty() && geometry.width == Width::Fat16;
            let fixed_size = usize::try_from(geometry.root_entries).unwrap_or_default() * ENTRY;
            let max = if fixed { fixed_size } else { DIRECTORY_MAX };
            if bytes > max {
                return Err(WriteError::TooLarge { path: show(path), size: bytes as u64, max: max as u64 });
            }
            directory.cluster = if fixed { 0 } else { take(bytes.max(1) as u64) };
        }
        let clusters: HashMap<&[u8], u32> =
            self.directories.iter().map(|(path, directory)| (*path, directory.cluster)).collect();
        for child in self.directories.values_mut().flat_map(|directory| &mut directory.children) {
            child.cluster = match child.content {
                Some(content) if content.is_empty() => 0,
                Some(content) => take(content.len()),
                None => clusters.get(child.path).copied().unwrap_or_default(),
            };
        }
        let needed = next - 2;
        if needed > u64::from(geometry.clusters) {
            let (clusters, cluster_size) = (geometry.clusters, geometry.cluster_size());
            return Err(WriteError::Full { needed, clusters, cluster_size });
        }
        self.chains = chains;
        Ok(())
    }

    fn offset(&self, directory: &Directory<'_>) -> u64 {
        match directory.cluster {
            0 => self.geometry.root_offset(),
            cluster => self.geometry.cluster_offset(cluster),
        }
    }

    fn directory_bytes(
        &self,
        directory: &Directory<'_>,
        label: Option<(names::Short, Timestamp)>,
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some((label, time)) = label {
            let facts = Facts { attributes: attribute::VOLUME_ID, cluster: 0, size: 0, time };
            bytes.extend(directory::short(&label, &facts));
        }
        let root = self.directories.get(&b""[..]).map_or(0, |root| root.cluster);
        if directory.cluster != root {
            // `..` of a directory in the root is cluster 0, even where the root has one (FAT32).
            let parent = self.directories.get(directory.parent).map_or(0, |parent| parent.cluster);
            let up = if parent == root { 0 } else { parent };
            for (name, cluster) in [(b".          ", directory.cluster), (b"..         ", up)] {
                let time = directory.time;
                let facts = Facts { attributes: attribute::DIRECTORY, cluster, size: 0, time };
                bytes.extend(directory::short(name, &facts));
            }
        }
        for (child, name) in directory.children.iter().zip(&directory.names) {
            let (attributes, size) = match child.content {
                Some(content) => (attribute::ARCHIVE, content.len()),
                None => (attribute::DIRECTORY, 0),
            };
            let size = u32::try_from(size).unwrap_or(u32::MAX);
            let facts = Facts { attributes, cluster: child.cluster, size, time: child.time };
            directory::put(name, &facts, &mut bytes);
        }
        bytes
    }

    /// Clusters in use.
    fn used(&self) -> u32 {
        self.chains.iter().sum()
    }
}

impl Directory<'_> {
    fn name_children(&mut self) -> Result<(), WriteError> {
        let mut seen = HashMap::new();
        for child in &self.children {
            if let Some(other) = seen.insert(names::fold(child.name), child.name) {
                let why = format!("beside it is {other:?}, and FAT does not tell upper and lower case apart");
                return Err(WriteError::BadName { path: show(child.path), why });
            }
        }
        let names = Names::assign(self.children.iter().map(|child| child.name));
        self.names = names.ok_or_else(|| WriteError::BadName {
            path: show(self.children.first().map_or(b"", |child| child.path)),
            why: "its directory has more than 999999 names that begin alike".to_owned(),
        })?;
        Ok(())
    }
}

/// The content of a file; `None` for a directory.
fn content_of<'a>(path: &[u8], kind: &'a Kind) -> Result<Option<&'a Content>, WriteError> {
    let kind = match kind {
        Kind::Directory => return Ok(None),
        Kind::File(content) if content.len() > u64::from(u32::MAX) => {
            let (size, max) = (content.len(), u64::from(u32::MAX));
            return Err(WriteError::TooLarge { path: show(path), size, max });
        }
        Kind::File(content) if !path.is_empty() => return Ok(Some(content)),
        Kind::File(_) => "a file in the place of the root directory",
        Kind::Symlink(_) => "a symbolic link",
        Kind::HardLink(_) => "a hard link",
        Kind::CharDevice { .. } | Kind::BlockDevice { .. } => "a device",
        Kind::Fifo => "a named pipe",
        Kind::Socket => "a socket",
    };
    Err(WriteError::Unsupported { path: show(path), kind })
}

/// Writes the boot sector, and for FAT32 its copy and FSInfo (fatgen103, Boot Sector and BPB; FAT32 FSInfo
/// Sector Structure and Backup Boot Sector).
fn boot_sectors<W: WriteAt + ?Sized>(plan: &Plan<'_>, options: &Options<'_>, out: &mut W) -> io::Result<()> {
    let geometry = plan.geometry;
    let mut boot = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| boot[at..at + bytes.len()].copy_from_slice(bytes);
    let narrow = |value: u32| u16::try_from(value).unwrap_or_default().to_le_bytes();
    let byte = |value: u32| [u8::try_from(value).unwrap_or_default()];
    // A jump to an endless loop behind the block: nothing here boots a BIOS.
    put(3, b"MSWIN4.1");
    put(11, &narrow(geometry.sector_size));
    put(13, &byte(geometry.sectors_per_cluster));
    put(14, &narrow(geometry.reserved));
    put(16, &byte(geometry.tables));
    put(17, &narrow(geometry.root_entries));
    // 16-bit volumes of fewer than 65536 sectors use the old field; all others the 32-bit one.
    let old = geometry.width == Width::Fat16 && geometry.sectors < 0x10000;
    put(19, &narrow(if old { geometry.sectors } else { 0 }));
    put(21, &[0xf8]);
    put(24, &narrow(63));
    put(26, &narrow(255));
    put(32, &(if old { 0 } else { geometry.sectors }).to_le_bytes());
    let (tail, kind) = match geometry.width {
        Width::Fat16 => {
            put(0, &[0xeb, 0x3c, 0x90]);
            put(22, &narrow(geometry.table_sectors));
            put(62, &[0xeb, 0xfe]);
            (36, b"FAT16   ")
        }
        Width::Fat32 => {
            put(0, &[0xeb, 0x58, 0x90]);
            put(36, &geometry.table_sectors.to_le_bytes());
            put(44, &2_u32.to_le_bytes());
            put(48, &1_u16.to_le_bytes());
            put(50, &6_u16.to_le_bytes());
            put(90, &[0xeb, 0xfe]);
            (64, b"FAT32   ")
        }
    };
    let label = Some(options.label).filter(|label| !label.is_empty()).unwrap_or("NO NAME");
    put(tail, &[0x80]);
    put(tail + 2, &[0x29]);
    put(tail + 3, &options.volume_id.to_le_bytes());
    put(tail + 7, &names::label(label).unwrap_or([b' '; 11]));
    put(tail + 18, kind);
    put(510, &[0x55, 0xaa]);
    out.write_all_at(&boot, 0)?;
    if geometry.width == Width::Fat32 {
        let mut info = [0; 512];
        let used = plan.used();
        for (at, value) in [
            (0, 0x4161_5252),
            (484, 0x6141_7272),
            (488, geometry.clusters - used),
            (492, used + 2),
            (508, 0xaa55_0000),
        ] {
            info[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
        }
        let sector = u64::from(geometry.sector_size);
        out.write_all_at(&info, sector)?;
        out.write_all_at(&boot, 6 * sector)?;
        out.write_all_at(&info, 7 * sector)?;
    }
    Ok(())
}

/// Writes the entries in use of an allocation table (fatgen103, FAT Data Structure): 0 and 1 hold the media
/// byte and the clean-shutdown bits, then each cluster its successor, the last one of a chain the end mark.
fn table_entries<W: WriteAt + ?Sized>(plan: &Plan<'_>, offset: u64, out: &mut W) -> io::Result<()> {
    let mut table = Table { width: plan.geometry.width, bytes: Vec::new(), at: offset, out };
    table.put(0x0fff_fff8)?;
    table.put(END)?;
    let mut cluster = 2;
    for count in plan.chains.iter().filter(|count| **count > 0) {
        for next in cluster + 1..cluster + count {
            table.put(next)?;
        }
        table.put(END)?;
        cluster += count;
    }
    table.flush()
}

/// The end mark of a chain, which is 0xFFFF in FAT16.
const END: u32 = 0x0fff_ffff;

struct Table<'a, W: ?Sized> {
    width: Width,
    bytes: Vec<u8>,
    at: u64,
    out: &'a mut W,
}

impl<W: WriteAt + ?Sized> Table<'_, W> {
    fn put(&mut self, entry: u32) -> io::Result<()> {
        let bytes = entry.to_le_bytes();
        self.bytes.extend(if self.width == Width::Fat32 { &bytes[..] } else { &bytes[..2] });
        if self.bytes.len() >= 256 << 10 { self.flush() } else { Ok(()) }
    }
    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all_at(&self.bytes, self.at)?;
        self.at += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }
}

fn show(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
