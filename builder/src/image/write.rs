//! Writing a disk image and digesting it.

use super::layout::{Body, Disk, Placed, place};
use crate::digest::{Hashing, Sha256};
use kiln_formats::io::Shifted;
use kiln_formats::{ext4, fat, gpt};
use rustix::fs::{SeekFrom, copy_file_range, seek};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

/// How much is read at once when bytes pass through memory.
const CHUNK: usize = 1 << 20;

/// Why an image was not written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The target can't be written: a full disk, mostly.
    #[error("writing the disk image: {0}")]
    Io(#[from] io::Error),
    /// A partition's name, for an error of its file system.
    #[error("partition {name}: {reason}")]
    Partition {
        /// Name of the partition.
        name: &'static str,
        /// What its format said.
        reason: String,
    },
    /// The partition table can't be made.
    #[error("partition table: {0}")]
    Table(String),
}

/// What was written.
#[derive(Debug)]
pub struct Written {
    /// Size of the image in bytes, holes included.
    pub size: u64,
    /// Where the partitions are.
    pub placed: Vec<Placed>,
}

/// Writes the disk into `target`, an empty file. Blocks of zeros stay holes.
pub fn write(disk: &Disk, target: &mut File) -> Result<Written, Error> {
    let (placed, size) = place(disk.partitions.iter().map(|p| p.size));
    target.set_len(size)?;
    for (partition, at) in disk.partitions.iter().zip(&placed) {
        let name = partition.name;
        let failed = |reason: String| Error::Partition { name, reason };
        match &partition.body {
            Body::Ext4 { blob, uuid } => {
                copy(blob, target, *at)?;
                let mut window = Shifted::new(target, at.start);
                ext4::set_uuid(blob.as_ref(), &mut window, *uuid.as_bytes())
                    .map_err(|e| failed(e.to_string()))?;
            }
            Body::FatCopy { blob, volume_id } => {
                copy(blob, target, *at)?;
                let mut window = Shifted::new(target, at.start);
                fat::set_volume_id(blob.as_ref(), &mut window, *volume_id)
                    .map_err(|e| failed(e.to_string()))?;
            }
            Body::Fat { tree, label, volume_id, created } => {
                let options = fat::Options {
                    size: at.size,
                    sector_size: disk.sector_size,
                    volume_id: *volume_id,
                    sectors_per_cluster: None,
                    label,
                    created: *created,
                };
                let mut window = Shifted::new(target, at.start);
                fat::write(tree, &options, &mut window).map_err(|e| failed(e.to_string()))?;
            }
        }
    }
    table(disk, &placed, size, target)?;
    Ok(Written { size, placed })
}

/// Both copies of the partition table, and the protective MBR.
fn table(disk: &Disk, placed: &[Placed], size: u64, target: &mut File) -> Result<(), Error> {
    let sector = u64::from(disk.sector_size);
    let partitions = disk.partitions.iter().zip(placed).zip(1..);
    let partitions = partitions.map(|((partition, at), number)| gpt::Partition {
        number,
        type_guid: partition.type_guid,
        guid: partition.guid,
        name: partition.name.to_owned(),
        first_lba: at.start / sector,
        last_lba: (at.start + at.size) / sector - 1,
        attributes: 0,
    });
    let table = gpt::Table {
        disk_guid: disk.guid,
        sector_size: disk.sector_size,
        disk_size: size,
        partitions: partitions.collect(),
    };
    gpt::write(&table, target).map_err(|error| Error::Table(error.to_string()))
}

/// Copies the data of `blob` to its place; its holes stay holes. Inside the kernel where that is possible: file
/// systems with reflinks then share the blocks between all nodes.
fn copy(blob: &File, target: &File, at: Placed) -> io::Result<()> {
    let size = blob.metadata()?.len().min(at.size);
    let mut from = 0;
    while from < size {
        // ENXIO: only a hole is left (lseek(2)).
        let start = match seek(blob, SeekFrom::Data(from)) {
            Ok(start) if start < size => start,
            Ok(_) | Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = seek(blob, SeekFrom::Hole(start))?.min(size);
        copy_range(blob, target, start..end, at.start)?;
        from = end;
    }
    Ok(())
}

fn copy_range(blob: &File, target: &File, range: std::ops::Range<u64>, base: u64) -> io::Result<()> {
    let mut at = range.start;
    while at < range.end {
        let (mut from, mut to) = (at, base + at);
        let len = usize::try_from(range.end - at).unwrap_or(usize::MAX);
        match copy_file_range(blob, Some(&mut from), target, Some(&mut to), len) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(copied) => at += copied as u64,
            // The cache and the output may be on file systems that the kernel does not copy between.
            Err(Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) => {
                let mut buf = vec![0; len.min(CHUNK)];
                blob.read_exact_at(&mut buf, at)?;
                target.write_all_at(&buf, base + at)?;
                at += buf.len() as u64;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Writes the bytes of a whole file to `out`, holes as zeros.
pub fn stream(file: &File, out: &mut impl Write) -> io::Result<()> {
    let size = file.metadata()?.len();
    let mut buf = vec![0; CHUNK];
    let mut at = 0;
    while at < size {
        let len = usize::try_from(size - at).unwrap_or(CHUNK).min(CHUNK);
        file.read_exact_at(&mut buf[..len], at)?;
        out.write_all(&buf[..len])?;
        at += len as u64;
    }
    Ok(())
}

/// The digest of a whole file, and its size in bytes.
pub fn digest(file: &File) -> io::Result<(Sha256, u64)> {
    let mut hashing = Hashing::new(io::sink());
    stream(file, &mut hashing)?;
    let (_, sha256, size) = hashing.finish();
    Ok((sha256, size))
}
