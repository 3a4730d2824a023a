//! Reading a GUID partition table from a disk (UEFI 2.10, section 5.3). The kernel tells partitions' places, not
//! their types, so the table itself is read. Only reading: nothing here writes.

use std::io;
use uuid::Uuid;

/// An entry in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Partition number, from 1.
    pub(crate) number: u32,
    /// Partition type GUID.
    pub(crate) kind: Uuid,
    /// Unique partition GUID.
    pub(crate) guid: Uuid,
    /// Partition name; what is not UTF-16 shows as U+FFFD.
    pub(crate) label: String,
}

/// A disk as bytes at offsets.
pub(crate) trait Disk {
    /// Fills `buffer` from `offset` (bytes).
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Disk for std::fs::File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buffer, offset)
    }
}

/// Why no entries came of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The disk can't be read.
    #[error("can't be read: {0}")]
    Read(#[from] io::Error),
    /// Neither copy carries the signature.
    #[error("no GUID partition table")]
    None,
    /// A copy carries the signature, and no copy is whole.
    #[error("damaged GUID partition table")]
    Damaged,
}

/// The longest entry array that is read: 1024 entries of 128 bytes. The usual one has 128 entries.
const MOST_ENTRY_BYTES: usize = 1 << 17;

/// The entries of the primary table, or of the backup at the disk's end when the primary is not whole.
/// `sector` and `size` are the disk's logical sector size and size in bytes.
pub(crate) fn read(disk: &dyn Disk, sector: u64, size: u64) -> Result<Vec<Entry>, Error> {
    let last = (size / sector).saturating_sub(1);
    let primary = read_copy(disk, sector, 1);
    match primary {
        Ok(entries) => Ok(entries),
        Err(Error::Read(error)) => Err(error.into()),
        Err(first) => match (read_copy(disk, sector, last), first) {
            (Ok(entries), _) => Ok(entries),
            (Err(Error::None), Error::None) => Err(Error::None),
            _ => Err(Error::Damaged),
        },
    }
}

/// One copy, whose header is at block `at`. Table 5-5 gives the header's fields, table 5-6 an entry's.
fn read_copy(disk: &dyn Disk, sector: u64, at: u64) -> Result<Vec<Entry>, Error> {
    let mut header = [0; 512];
    disk.read_at(&mut header, at.saturating_mul(sector))?;
    if &header[..8] != b"EFI PART" {
        return Err(Error::None);
    }
    let header_size = u32_at(&header, 12) as usize;
    if !(92..=512).contains(&header_size) || u64_at(&header, 24) != at {
        return Err(Error::Damaged);
    }
    let header_crc = u32_at(&header, 16);
    header[16..20].fill(0);
    if crc32(&header[..header_size]) != header_crc {
        return Err(Error::Damaged);
    }
    let (entries_at, count, entry_size) =
        (u64_at(&header, 72), u32_at(&header, 80) as usize, u32_at(&header, 84) as usize);
    let bytes = count.checked_mul(entry_size).filter(|bytes| (1..=MOST_ENTRY_BYTES).contains(bytes));
    let start = entries_at.checked_mul(sector);
    let (Some(bytes), Some(start)) = (bytes, start) else { return Err(Error::Damaged) };
    if entry_size < 128 {
        return Err(Error::Damaged);
    }
    let mut array = vec![0; bytes];
    disk.read_at(&mut array, start)?;
    if crc32(&array) != u32_at(&header, 88) {
        return Err(Error::Damaged);
    }
    let used = array.chunks_exact(entry_size).zip(1..).filter(|(entry, _)| entry[..16] != [0; 16]);
    Ok(used.map(|(entry, number)| parse_entry(entry, number)).collect())
}

fn parse_entry(entry: &[u8], number: u32) -> Entry {
    let units = entry[56..128].chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let label = char::decode_utf16(units.take_while(|unit| *unit != 0))
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        // A label is foreign bytes on their way to a terminal.
        .map(|letter| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter })
        .collect();
    Entry { number, kind: guid_at(entry, 0), guid: guid_at(entry, 16), label }
}

/// A GUID's first three fields are little-endian (UEFI 2.10, appendix A).
fn guid_at(bytes: &[u8], at: usize) -> Uuid {
    let mut guid = [0; 16];
    guid.copy_from_slice(&bytes[at..at + 16]);
    Uuid::from_bytes_le(guid)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// CRC-32 with polynomial 0xEDB88320 (UEFI 2.10, section 4.1.1). 16 KiB an array: a table would not pay.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| {
                if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
            },
        )
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{Disk, Entry, Error, crc32, read};
    use proptest::prelude::{any, prop, proptest};
    use std::io;
    use uuid::{Uuid, uuid};

    impl Disk for Vec<u8> {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            let start = usize::try_from(offset).map_err(io::Error::other)?;
            let end = start.checked_add(buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            buffer.copy_from_slice(self.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        }
    }

    /// A small disk (64 blocks and more) with both copies of a table of `partitions`: (type, guid, label).
    pub(crate) fn disk(sector: usize, partitions: &[(Uuid, Uuid, &str)]) -> Vec<u8> {
        let array_blocks = (128 * 128_usize).div_ceil(sector);
        let blocks = 64 + 2 * array_blocks;
        let mut array = vec![0; 128 * 128];
        for (slot, (kind, guid, label)) in array.chunks_exact_mut(128).zip(partitions) {
            slot[..16].copy_from_slice(&kind.to_bytes_le());
            slot[16..32].copy_from_slice(&guid.to_bytes_le());
            for (at, unit) in label.encode_utf16().enumerate() {
                slot[56 + at * 2..58 + at * 2].copy_from_slice(&unit.to_le_bytes());
            }
        }
        let mut disk = vec![0; blocks * sector];
        for (at, entries_at) in [(1, 2), (blocks - 1, blocks - 1 - array_blocks)] {
            let mut header = vec![0; 92];
            header[..8].copy_from_slice(b"EFI PART");
            header[10] = 1;
            header[12] = 92;
            header[24..32].copy_from_slice(&(at as u64).to_le_bytes());
            header[72..80].copy_from_slice(&(entries_at as u64).to_le_bytes());
            header[80] = 128;
            header[84] = 128;
            header[88..92].copy_from_slice(&crc32(&array).to_le_bytes());
            let crc = crc32(&header);
            header[16..20].copy_from_slice(&crc.to_le_bytes());
            disk[at * sector..at * sector + 92].copy_from_slice(&header);
            disk[entries_at * sector..entries_at * sector + array.len()].copy_from_slice(&array);
        }
        disk
    }

    const KIND: Uuid = uuid!("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
    const GUID: Uuid = uuid!("11111111-2222-5333-8444-555555555555");

    #[test]
    fn both_sector_sizes_read() {
        for sector in [512, 4096] {
            let bytes = disk(sector, &[(KIND, GUID, "ESP")]);
            let entries = read(&bytes, sector as u64, bytes.len() as u64).unwrap();
            assert_eq!(entries, [Entry { number: 1, kind: KIND, guid: GUID, label: "ESP".to_owned() }]);
        }
    }

    #[test]
    fn the_backup_stands_in_for_a_damaged_primary() {
        let mut bytes = disk(512, &[(KIND, GUID, "ESP")]);
        bytes[2 * 512] ^= 1;
        assert_eq!(read(&bytes, 512, bytes.len() as u64).unwrap().len(), 1);
        bytes[512] = 0;
        assert_eq!(read(&bytes, 512, bytes.len() as u64).unwrap().len(), 1);
    }

    #[test]
    fn two_damaged_copies_and_no_table_are_told_apart() {
        let mut bytes = disk(512, &[(KIND, GUID, "ESP")]);
        let size = bytes.len();
        bytes[512 + 40] ^= 1;
        bytes[size - 512 + 40] ^= 1;
        assert!(matches!(read(&bytes, 512, size as u64), Err(Error::Damaged)));
        assert!(matches!(read(&vec![0; 65536], 512, 65536), Err(Error::None)));
    }

    /// The check value of CRC-32/ISO-HDLC.
    #[test]
    fn crc_of_the_check_string() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2048), signed: bool) {
            let mut bytes = bytes;
            if signed && bytes.len() > 520 {
                bytes[512..520].copy_from_slice(b"EFI PART");
            }
            let size = bytes.len() as u64;
            let _ = read(&bytes, 512, size);
        }
    }
}
