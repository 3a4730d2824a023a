//! Writing an image from a raw disk.

use super::{CLUSTER, CLUSTER_BITS, COMPRESSION_BIT, ENTRIES, MAGIC, ZSTD};
use crate::io::{ReadAt, WriteAt};
use crate::sparse::{data_extents, is_zero};
use std::io;

/// Clusters that are read, and compressed, at once.
const BATCH: usize = 64;
/// The entry's cluster has one reference: it may be written in place (Standard Cluster Descriptor, bit 63).
const COPIED: u64 = 1 << 63;
/// Compressed Clusters Descriptor, bit 62.
const COMPRESSED: u64 = 1 << 62;
/// Bits of a compressed cluster's offset; the sectors it takes beyond its first follow.
const OFFSET_BITS: u32 = 62 - (CLUSTER_BITS - 8);
/// QEMU reads no larger L1 table (bytes).
const L1_MAX: usize = 32 << 20;

/// How to write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// zstd level of clusters that shrink by it; `None` leaves all as they are. QEMU reads such images from
    /// version 5.1 on.
    pub zstd_level: Option<i32>,
}

/// Why an image cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The disk's size.
    #[error("a disk of {size} bytes cannot be a qcow2 image: {why}")]
    Size {
        /// In bytes.
        size: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Reading the disk, compressing it, or writing the image failed.
    #[error("writing the qcow2 image: {0}")]
    Io(#[from] io::Error),
}

/// Writes the raw disk `source` as an image and returns the image's size in bytes. Holes are passed over.
///
/// # Errors
/// See [`WriteError`].
pub fn write<W: WriteAt + ?Sized>(
    source: &dyn ReadAt,
    options: Options,
    out: &mut W,
) -> Result<u64, WriteError> {
    let size = source.size()?;
    if !size.is_multiple_of(512) {
        return Err(WriteError::Size { size, why: "it is not a whole number of 512 byte sectors" });
    }
    let too_large = || WriteError::Size { size, why: "it is beyond what QEMU's tables describe" };
    let tables = usize::try_from(size.div_ceil((CLUSTER * ENTRIES) as u64)).map_err(|_| too_large())?;
    if tables > L1_MAX / 8 {
        return Err(too_large());
    }
    let l1_clusters = (tables * 8).div_ceil(CLUSTER);
    let mut image = Image {
        out,
        options,
        l1: vec![0; tables],
        l2: None,
        next: (1 + l1_clusters) as u64 * CLUSTER as u64,
        references: vec![1; 1 + l1_clusters],
    };
    let mut done = 0;
    let mut buf = vec![0; BATCH * CLUSTER];
    for extent in data_extents(source)? {
        let extent = extent?;
        // Batches begin at multiples of their size: none spans two L2 tables.
        let batch = buf.len() as u64;
        let mut at = (extent.start / CLUSTER as u64 * CLUSTER as u64).max(done);
        while at < extent.end {
            let end = (at / batch + 1) * batch;
            let end = end.min(extent.end.next_multiple_of(CLUSTER as u64));
            let bytes = &mut buf[..usize::try_from(end - at).unwrap_or_default()];
            let within = usize::try_from(end.min(size) - at).unwrap_or_default();
            source.read_exact_at(&mut bytes[..within], at)?;
            bytes[within..].fill(0);
            image.clusters(bytes, at / CLUSTER as u64)?;
            at = end;
        }
        done = at.max(done);
    }
    Ok(image.finish(size)?)
}

/// An image in the making: everything is appended, but for header and L1 table, which have their place.
struct Image<'a, W: ?Sized> {
    out: &'a mut W,
    options: Options,
    l1: Vec<u64>,
    /// The L2 table that is being filled: its place in L1, and its entries.
    l2: Option<(usize, Vec<u64>)>,
    /// Where the next byte goes.
    next: u64,
    /// References to each cluster of the file.
    references: Vec<u16>,
}

fn big_endian(entries: &[u64]) -> Vec<u8> {
    entries.iter().flat_map(|entry| entry.to_be_bytes()).collect()
}

impl<W: WriteAt + ?Sized> Image<'_, W> {
    /// Adds clusters that lie side by side on the guest's disk from number `first` on, all of one L2 table.
    fn clusters(&mut self, bytes: &[u8], first: u64) -> io::Result<()> {
        let first = usize::try_from(first).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let clusters: Vec<(usize, &[u8])> =
            (first..).zip(bytes.chunks(CLUSTER)).filter(|(_, cluster)| !is_zero(cluster)).collect();
        if clusters.is_empty() {
            return Ok(());
        }
        self.open(first / ENTRIES)?;
        match self.options.zstd_level {
            None => self.plain(bytes, &clusters, first),
            Some(level) => self.compressed(&clusters, level),
        }
    }

    /// Makes `table` the L2 table that is being filled.
    fn open(&mut self, table: usize) -> io::Result<()> {
        if self.l2.as_ref().is_none_or(|(open, _)| *open != table) {
            self.close()?;
            self.l2 = Some((table, vec![0; ENTRIES]));
        }
        Ok(())
    }

    /// Writes the L2 table that is being filled.
    fn close(&mut self) -> io::Result<()> {
        if let Some((table, entries)) = self.l2.take() {
            let offset = self.append(&big_endian(&entries))?;
            self.l1[table] = offset | COPIED;
        }
        Ok(())
    }

    fn set(&mut self, cluster: usize, entry: u64) {
        if let Some((_, entries)) = &mut self.l2 {
            entries[cluster % ENTRIES] = entry;
        }
    }

    /// Appends whole clusters, and counts them.
    fn append(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let offset = self.next.next_multiple_of(CLUSTER as u64);
        self.out.write_all_at(bytes, offset)?;
        self.next = offset + bytes.len() as u64;
        self.count(offset, bytes.len());
        Ok(offset)
    }

    /// One more reference to each cluster of the file that has any of these bytes.
    fn count(&mut self, offset: u64, len: usize) {
        let cluster = |at: u64| usize::try_from(at / CLUSTER as u64).unwrap_or(usize::MAX);
        let (first, last) = (cluster(offset), cluster(offset + len as u64 - 1));
        self.references.resize(self.references.len().max(last + 1), 0);
        for references in &mut self.references[first..=last] {
            *references += 1;
        }
    }

    /// Appends `clusters`, pieces of `bytes`, which begin with number `first`; neighbours in one write.
    fn plain(&mut self, bytes: &[u8], clusters: &[(usize, &[u8])], first: usize) -> io::Result<()> {
        for run in clusters.chunk_by(|(one, _), (two, _)| one + 1 == *two) {
            let Some((start, _)) = run.first() else { continue };
            let place = (start - first) * CLUSTER;
            let offset = self.append(&bytes[place..place + run.len() * CLUSTER])?;
            for (cluster, offset) in run.iter().zip((offset..).step_by(CLUSTER)) {
                self.set(cluster.0, offset | COPIED);
            }
        }
        Ok(())
    }

    fn compressed(&mut self, clusters: &[(usize, &[u8])], level: i32) -> io::Result<()> {
        for ((cluster, bytes), packed) in clusters.iter().zip(compress(clusters, level)?) {
            if packed.len() >= CLUSTER {
                let offset = self.append(bytes)?;
                self.set(*cluster, offset | COPIED);
                continue;
            }
            let offset = self.next;
            self.out.write_all_at(&packed, offset)?;
            self.next += packed.len() as u64;
            self.count(offset, packed.len());
            let sectors = (offset + packed.len() as u64 - 1) / 512 - offset / 512;
            self.set(*cluster, COMPRESSED | sectors << OFFSET_BITS | offset);
        }
        Ok(())
    }

    /// Writes what is left: the last L2 table, the reference counts, L1 and the header.
    fn finish(mut self, size: u64) -> io::Result<u64> {
        self.close()?;
        self.next = self.next.next_multiple_of(CLUSTER as u64);
        // The counts count themselves: more blocks may need more blocks.
        let per_block = CLUSTER / 2;
        let used = self.references.len();
        let (mut blocks, mut table) = (1, 1);
        while used + blocks + table > blocks * per_block {
            blocks += 1;
            table = blocks.div_ceil(ENTRIES);
        }
        let table_offset = self.next;
        let first_block = table_offset + (table * CLUSTER) as u64;
        self.references.resize(used + table + blocks, 1);
        let offsets: Vec<u64> = (0..blocks).map(|block| first_block + (block * CLUSTER) as u64).collect();
        self.out.write_all_at(&big_endian(&offsets), table_offset)?;
        let mut counts: Vec<u8> = self.references.iter().flat_map(|count| count.to_be_bytes()).collect();
        // The last block is whole, or tools find the file cut short.
        counts.resize(blocks * CLUSTER, 0);
        self.out.write_all_at(&counts, first_block)?;
        let end = first_block + (blocks * CLUSTER) as u64;
        self.out.write_all_at(&big_endian(&self.l1), CLUSTER as u64)?;
        self.out.write_all_at(&self.header(size, table_offset, table), 0)?;
        Ok(end)
    }

    /// The header (qcow2.rst, Header); its extensions end with eight zeros.
    fn header(&self, size: u64, table_offset: u64, table_clusters: usize) -> [u8; 120] {
        let zstd = self.options.zstd_level.is_some();
        let mut bytes = [0; 120];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        let narrow = |value: usize| u32::try_from(value).unwrap_or(u32::MAX).to_be_bytes();
        put(0, MAGIC);
        put(4, &3_u32.to_be_bytes());
        put(20, &CLUSTER_BITS.to_be_bytes());
        put(24, &size.to_be_bytes());
        put(36, &narrow(self.l1.len()));
        put(40, &(CLUSTER as u64).to_be_bytes());
        put(48, &table_offset.to_be_bytes());
        put(56, &narrow(table_clusters));
        put(72, &(if zstd { COMPRESSION_BIT } else { 0 }).to_be_bytes());
        // Counts of 16 bits.
        put(96, &4_u32.to_be_bytes());
        put(100, &112_u32.to_be_bytes());
        put(104, &[if zstd { ZSTD } else { 0 }]);
        bytes
    }
}

/// Compresses each cluster by itself, on all cores; the bytes do not depend on their number.
fn compress(clusters: &[(usize, &[u8])], level: i32) -> io::Result<Vec<Vec<u8>>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(clusters.len());
    let share = clusters.len().div_ceil(threads.max(1));
    let work = |clusters: &[(usize, &[u8])]| -> io::Result<Vec<Vec<u8>>> {
        let mut compressor = zstd::bulk::Compressor::new(level)?;
        clusters.iter().map(|(_, bytes)| compressor.compress(bytes)).collect()
    };
    std::thread::scope(|scope| {
        let handles: Vec<_> =
            clusters.chunks(share.max(1)).map(|share| scope.spawn(move || work(share))).collect();
        let mut all = Vec::with_capacity(clusters.len());
        for handle in handles {
            let done = handle.join().map_err(|_| io::Error::other("a compressing thread failed"))?;
            all.extend(done?);
        }
        Ok(all)
    })
}
