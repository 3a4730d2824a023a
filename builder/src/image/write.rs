//! Writing a disk image and digesting it.

use super::layout::{Body, Disk, Placed, place};
use crate::digest::{Hashing, Sha256};
use kiln_formats::io::{Shifted, WriteAt};
use kiln_formats::{ext4, fat, gpt};
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
                ext4::set_uuid(blob, &mut window, *uuid.as_bytes()).map_err(|e| failed(e.to_string()))?;
            }
            Body::FatCopy { blob, volume_id } => {
                copy(blob, target, *at)?;
                let mut window = Shifted::new(target, at.start);
                fat::set_volume_id(blob, &mut window, *volume_id).map_err(|e| failed(e.to_string()))?;
            }
            Body::Fat { tree, label, volume_id, created } => {
                let options = fat::Options {
                    size: at.size,
                    sector_size: disk.sector_size,
                    volume_id: *volume_id,
                    label: (*label).to_owned(),
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
