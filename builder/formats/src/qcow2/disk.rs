//! The guest's disk inside an image.

use super::read::{Header, ReadError, read_header};
use crate::io::ReadAt;
use std::io::{self, ErrorKind};
use std::sync::Arc;

/// Host offset in an L1 or L2 entry: bits 9 to 55 (qcow2.rst, "L1 table entry", "Standard Cluster Descriptor").
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// Bit 62 of an L2 entry: the cluster is compressed.
const COMPRESSED: u64 = 1 << 62;
/// Bit 0 of a standard descriptor, version 3: the cluster reads as zeros.
const ZERO: u64 = 1;
/// No honest L1 table is larger (bytes): QEMU's own limit.
const L1_MAX: u64 = 32 << 20;

/// The guest's disk of an image without backing file, encryption and compressed clusters: what [`write`](super::write())
/// makes without a compression level.
#[derive(Debug)]
pub struct Disk {
    source: Arc<dyn ReadAt>,
    header: Header,
    l1: Vec<u64>,
}

impl Disk {
    /// Opens an image.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn open(source: Arc<dyn ReadAt>) -> Result<Self, ReadError> {
        let header = read_header(source.as_ref())?;
        if header.backing_file.is_some() || header.encrypted {
            return Err(ReadError::Header(
                "it has a backing file or is encrypted, and only whole plain images are read",
            ));
        }
        let mut fields = [0; 12];
        // l1_size at byte 36, l1_table_offset at byte 40.
        source.read_exact_at(&mut fields, 36)?;
        let entries = u64::from(u32::from_be_bytes([fields[0], fields[1], fields[2], fields[3]]));
        let offset = u64::from_be_bytes([
            fields[4], fields[5], fields[6], fields[7], fields[8], fields[9], fields[10], fields[11],
        ]);
        let covered = header.cluster_size / 8 * header.cluster_size;
        if entries * 8 > L1_MAX || entries < header.virtual_size.div_ceil(covered) {
            return Err(ReadError::Header("its L1 table does not fit its size"));
        }
        let mut bytes = vec![0; usize::try_from(entries * 8).unwrap_or_default()];
        source.read_exact_at(&mut bytes, offset)?;
        let (words, _) = bytes.as_chunks::<8>();
        Ok(Self { source, header, l1: words.iter().map(|word| u64::from_be_bytes(*word)).collect() })
    }

    /// Where the cluster with this number is in the file; none when it reads as zeros.
    fn cluster(&self, number: u64) -> io::Result<Option<u64>> {
        let bad = |why: &'static str| io::Error::new(ErrorKind::InvalidData, why);
        let entries = self.header.cluster_size / 8;
        let index = usize::try_from(number / entries).map_err(|_| ErrorKind::InvalidData)?;
        let table = self.l1.get(index).ok_or_else(|| bad("a cluster beyond the L1 table"))? & OFFSET;
        if table == 0 {
            return Ok(None);
        }
        let mut entry = [0; 8];
        let at = table.checked_add(number % entries * 8).ok_or_else(|| bad("an L2 table beyond the file"))?;
        self.source.read_exact_at(&mut entry, at)?;
        let entry = u64::from_be_bytes(entry);
        if entry & COMPRESSED != 0 {
            return Err(io::Error::new(
                ErrorKind::Unsupported,
                "a compressed cluster; `qemu-img convert` unpacks it",
            ));
        }
        Ok(Some(entry & OFFSET).filter(|offset| entry & ZERO == 0 && *offset != 0))
    }
}

impl ReadAt for Disk {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.header.virtual_size);
        if end.is_none() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let size = self.header.cluster_size;
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let inside = at % size;
            let len = usize::try_from(size - inside).unwrap_or(usize::MAX).min(buf.len() - done);
            let part = &mut buf[done..done + len];
            match self.cluster(at / size)? {
                Some(host) => {
                    let host = host.checked_add(inside).ok_or(ErrorKind::InvalidData)?;
                    self.source.read_exact_at(part, host)?;
                }
                None => part.fill(0),
            }
            done += len;
        }
        Ok(())
    }
    fn size(&self) -> io::Result<u64> {
        Ok(self.header.virtual_size)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Options, write};
    use super::Disk;
    use crate::io::ReadAt;
    use proptest::prelude::{ProptestConfig, any, prop, proptest};
    use std::sync::Arc;

    fn image(raw: &Vec<u8>) -> Vec<u8> {
        let mut image = Vec::new();
        write(raw, Options { zstd_level: None }, &mut image).unwrap();
        image
    }

    #[test]
    fn the_disk_reads_as_it_was_written() {
        let mut raw = vec![0; 300 << 10];
        raw[..5].copy_from_slice(b"first");
        raw[(200 << 10) - 2..(200 << 10) + 2].copy_from_slice(b"over");
        let disk = Disk::open(Arc::new(image(&raw))).unwrap();
        assert_eq!(disk.size().unwrap(), 300 << 10);
        let mut all = vec![1; raw.len()];
        disk.read_exact_at(&mut all, 0).unwrap();
        assert!(all == raw);
        assert!(disk.read_exact_at(&mut [0; 2], (300 << 10) - 1).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]
        #[test]
        fn mutated_images_are_survived(changes in prop::collection::vec((0usize..0x4_0000, any::<u8>()), 1..20)) {
            let mut bytes = image(&vec![7; 128 << 10]);
            let len = bytes.len();
            for (at, byte) in changes {
                bytes[at % len] = byte;
            }
            if let Ok(disk) = Disk::open(Arc::new(bytes)) {
                let _ = disk.read_exact_at(&mut [0; 4096], 60 << 10);
            }
        }
    }
}
